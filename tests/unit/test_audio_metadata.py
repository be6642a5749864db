"""What a re-encoded video keeps in addition to the frames: audio, metadata, chapters."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from clips import B_FRAMES, TONE
from clips import source as moving_picture
from encoding import encoded, reencode

from pvio.media.encode import audio_metadata as side_streams
from pvio.media.encode.concat import concat_segments
from pvio.media.index.cached import load_index

Clip = Callable[[str], Path]


def test_audio_packets_are_copied_with_their_times(clip: Clip, reencoded: Any, ffmpeg: Any):
    source = clip("audio.mp4")
    assert ffmpeg.packets(reencoded(source), "0:a:0") == ffmpeg.packets(source, "0:a:0")


def test_audio_that_the_container_cannot_hold_is_left_out(
    tmp_path: Path, reencoded: Any, ffmpeg: Any
):
    source = tmp_path / "pcm.avi"
    ffmpeg.run(
        *("-v", "error", "-f", "lavfi", "-i", "sine=duration=0.4"),
        *("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", 10),
        *("-c:v", "mpeg4", "-c:a", "adpcm_ima_wav", source),
    )
    text = ffmpeg.describe(reencoded(source))
    assert "Video: h264" in text
    assert "Audio" not in text


@pytest.fixture(scope="module")
def described(clip: Clip, tmp_path_factory: pytest.TempPathFactory, ffmpeg: Any) -> Path:
    """A video with a title, chapters and two audio streams in two languages."""
    folder = tmp_path_factory.mktemp("described")
    words = folder / "words.txt"
    words.write_text(
        ";FFMETADATA1\ntitle=Mouse 7\ncomment=first day\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=before\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=1600\ntitle=after\n"
    )
    path = folder / "described.mp4"
    ffmpeg.run(
        *("-v", "error", "-i", clip("audio.mp4"), "-i", words, "-map", "0:v", "-map", "0:a"),
        *("-map", "0:a", "-map_metadata", 1, "-map_chapters", 1, "-c", "copy"),
        *("-metadata", "creation_time=2020-01-02T03:04:05Z", "-metadata:s:a:0", "language=deu"),
        *("-metadata:s:a:1", "language=fra", "-disposition:a:0", "0"),
        *("-disposition:a:1", "default+comment", path),
    )
    return path


def words_of(ffmpeg: Any, path: Path) -> dict[str, str]:
    text = ffmpeg.run("-v", "error", "-i", path, "-f", "ffmetadata", "-").stdout.decode()
    pairs = (line.partition("=") for line in text.split("[CHAPTER]")[0].splitlines())
    return {key.lower(): value for key, _, value in pairs}


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
def test_metadata_of_the_container_are_copied(
    described: Path, codec: str, reencoded: Any, ffmpeg: Any
):
    found = words_of(ffmpeg, reencoded(described, codec=codec))
    assert found["title"] == "Mouse 7"
    assert found["comment"] == "first day"
    with av.open(str(reencoded(described, codec=codec))) as video:
        assert video.metadata["creation_time"].startswith("2020-01-02T03:04:05")


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_chapters_are_copied(described: Path, codec: str, reencoded: Any, ffmpeg: Any):
    text = ffmpeg.describe(reencoded(described, codec=codec))
    found = re.findall(
        r"Chapter #0:\d: start ([\d.]+), end ([\d.]+)\s+Metadata:\s+title +: (\w+)", text
    )
    assert found == [("0.000000", "0.400000", "before"), ("0.400000", "1.600000", "after")]


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_all_audio_streams_are_copied_with_language_and_disposition(
    described: Path, codec: str, reencoded: Any, ffmpeg: Any
):
    path = reencoded(described, codec=codec)
    for stream in ("0:a:0", "0:a:1"):
        copied = ffmpeg.packets(path, stream)
        given = ffmpeg.packets(described, stream)
        assert [digest for _, digest in copied] == [digest for _, digest in given]
        unit = Fraction(1, 1000) if codec == "ffv1" else Fraction(0)
        assert all(abs(a - b) <= unit / 2 for (a, _), (b, _) in zip(copied, given, strict=True))
    lines = [line for line in ffmpeg.describe(path).splitlines() if "Audio:" in line]
    assert ["(deu)" in lines[0], "(default)" in lines[0]] == [True, False]
    assert "(fra)" in lines[1]
    assert "(default)" in lines[1]
    assert "(comment)" in lines[1]


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_audio_of_every_container_is_copied(
    tmp_path: Path, codec: str, settings_for: Any, ffmpeg: Any
):
    source = tmp_path / "opus.webm"
    ffmpeg.run("-v", "error", *TONE, *moving_picture(), "-c:v", "libvpx", "-g", "12", source)
    settings = settings_for(codec=codec)
    made = reencode(source, settings, tmp_path / f"a{settings.output.suffix}")
    assert ffmpeg.packets(made, "0:a:0") == ffmpeg.packets(source, "0:a:0")


def test_audio_of_a_transport_stream_stays_the_same(tmp_path: Path, settings_for: Any, ffmpeg: Any):
    source = tmp_path / "a.ts"
    ffmpeg.run("-v", "error", *TONE, *moving_picture(), *B_FRAMES, "-c:a", "aac", source)
    made = reencode(source, settings_for(), tmp_path / "a.mp4")
    # MP4 has no ADTS headers before the packets.
    audio = ["-map", "0:a:0", "-f", "s16le", "-"]
    assert ffmpeg.run("-i", made, *audio).stdout == ffmpeg.run("-i", source, *audio).stdout


def test_a_title_that_is_no_utf_8_is_copied(tmp_path: Path, settings_for: Any, ffmpeg: Any):
    source = tmp_path / "a.avi"
    title = ["-metadata", "title=M..use"]
    ffmpeg.run("-v", "error", *moving_picture(), "-c:v", "mpeg4", "-g", "12", *title, source)
    source.write_bytes(source.read_bytes().replace(b"M..use", "Mäüse".encode("latin-1") + b"!"))
    made = reencode(source, settings_for(), tmp_path / "a.mp4")
    assert words_of(ffmpeg, made)["title"] == "Mäüse!"


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_keys_of_any_name_are_copied(tmp_path: Path, codec: str, settings_for: Any, ffmpeg: Any):
    source = tmp_path / "a.mkv"
    words = {"title": "Mouse 7", "camera": "Basler 3", "com.apple.quicktime.model": "iPhone"}
    options = [word for key, value in words.items() for word in ("-metadata", f"{key}={value}")]
    ffmpeg.run("-v", "error", *moving_picture(), *B_FRAMES, *options, source)
    settings = settings_for(codec=codec)
    made = reencode(source, settings, tmp_path / f"made{settings.output.suffix}")
    assert words.items() <= words_of(ffmpeg, made).items()


def decoded_audio(ffmpeg: Any, path: Path) -> bytes:
    return ffmpeg.run("-v", "error", "-i", path, "-map", "0:a:0", "-f", "s16le", "-").stdout


@pytest.mark.parametrize("offset", ["0", "0.7", "-0.3"])
@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_audio_starts_when_it_did(
    tmp_path: Path, codec: str, offset: str, settings_for: Any, ffmpeg: Any
):
    """In sync with the frames, even with an edit list or another start."""
    source = tmp_path / "a.mp4"
    ffmpeg.run(
        *("-v", "error", "-itsoffset", offset, *TONE, *moving_picture(), "-map", "1:v"),
        *("-map", "0:a", *B_FRAMES, "-c:a", "aac", source),
    )
    settings = settings_for(codec=codec)
    made = reencode(source, settings, tmp_path / f"made{settings.output.suffix}")

    def begins(path: Path) -> float:
        """Time of the first audio sample, relative to the first frame."""
        found = []
        for shown in (("-vn", "-af", "ashowinfo"), ("-an", "-vf", "showinfo")):
            text = ffmpeg.run("-i", path, *shown, "-copyts", "-f", "null", "-").stderr.decode()
            found.append(float(re.findall(r"pts_time: *(\S+)", text)[0]))
        return found[0] - found[1]

    # Matroska: the packet of the first sample and one before it, and milliseconds.
    tolerance = 0.0002 if codec == "libx264" else 2 * 1024 / 44100 + 0.001
    assert begins(made) == pytest.approx(begins(source), abs=tolerance)
    if codec == "libx264":
        assert decoded_audio(ffmpeg, made) == decoded_audio(ffmpeg, source)


def test_damaged_audio_costs_what_is_damaged(
    tmp_path: Path, settings_for: Any, ffmpeg: Any, caplog: pytest.LogCaptureFixture
):
    source = tmp_path / "a.mkv"
    ffmpeg.run("-v", "error", *TONE, *moving_picture(), *B_FRAMES, "-c:a", "aac", source)
    index = load_index(source)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    made = tmp_path / "made.mp4"
    parts = encoded(index, settings_for())
    concat_segments(parts, index, made)
    assert len(ffmpeg.times(made)) == 40
    assert 0 < len(ffmpeg.packets(made, "0:a:0")) < 70


def test_audio_that_cannot_be_read_on_ends_there(
    clip: Clip, tmp_path: Path, settings_for: Any, ffmpeg: Any, monkeypatch: pytest.MonkeyPatch
):
    class Failing:
        """A container of which a packet cannot be read."""

        def __init__(self, container: Any):
            self.container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self.container, name)

        def demux(self, *streams: Any) -> Any:
            for number, packet in enumerate(self.container.demux(*streams)):
                if number == 20:
                    raise av.error.InvalidDataError(1, "Invalid data found", "audio.mp4")
                yield packet

    opened = side_streams.open_container
    monkeypatch.setattr(side_streams, "open_container", lambda path: Failing(opened(path)))
    index = load_index(clip("audio.mp4"))
    monkeypatch.setattr(Failing, "__enter__", lambda self: self, raising=False)
    monkeypatch.setattr(Failing, "__exit__", lambda self, *e: self.container.close(), raising=False)
    made = tmp_path / "made.mp4"
    [remark] = concat_segments(encoded(index, settings_for()), index, made)
    given = ffmpeg.packets(clip("audio.mp4"), "0:a:0")[:20]
    last = float(given[-1][0])
    assert remark == f"its audio cannot be read after {last:.3f} s: Invalid data found"
    assert ffmpeg.packets(made, "0:a:0") == given


def test_audio_with_times_that_go_back_is_left_out(
    clip: Clip, tmp_path: Path, settings_for: Any, ffmpeg: Any, monkeypatch: pytest.MonkeyPatch
):
    # As in a stream that was cut and glued together.
    source = tmp_path / "glued.ts"
    ffmpeg.run("-v", "error", *TONE, *moving_picture(), *B_FRAMES, "-c:a", "aac", tmp_path / "a.ts")
    part = (tmp_path / "a.ts").read_bytes()
    source.write_bytes(part + part)
    index = load_index(source)
    made = tmp_path / "made.mp4"
    concat_segments(encoded(index, settings_for()), index, made)
    times = [at for at, _ in ffmpeg.packets(made, "0:a:0")]
    assert times == sorted(set(times))
    assert len(ffmpeg.times(made)) == index.n_frames
