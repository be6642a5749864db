"""Encoders: each joins and decodes without logged errors, takes options, and has a fallback."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from encoding import encoded, reencode

from pvio.config.settings import parse_settings
from pvio.errors import EncodeError
from pvio.media.encode.format import output_format, warn_once
from pvio.media.encode.options import encoder_options
from pvio.media.index.cached import load_index

Clip = Callable[[str], Path]


CODECS = ["libx264", "libx265", "ffv1", "h264_nvenc", "hevc_nvenc"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", ["variable_rate.mp4", "late_start.mp4", "ten_bit.mp4"])
def test_every_codec_joins_and_keeps_the_times(
    clip: Clip, codec: str, name: str, reencoded: Any, ffmpeg: Any
):
    path = reencoded(clip(name), codec=codec, crf=23)
    assert ffmpeg.logged_errors(path) == ""
    assert ffmpeg.times(path) == ffmpeg.times(clip(name))


@pytest.mark.parametrize(
    ("codec", "suffix", "shown"),
    [
        ("libx264", ".mp4", "h264 (High) (avc1"),
        ("libx265", ".mp4", "hevc (Main) (hvc1"),
        ("ffv1", ".mkv", "ffv1,"),
    ],
)
def test_each_codec_has_its_container_and_tag(
    clip: Clip, codec: str, suffix: str, shown: str, reencoded: Any, ffmpeg: Any
):
    path = reencoded(clip("b_frames.mp4"), codec=codec, crf=23, preset="medium")
    assert path.suffix == suffix
    assert f"Video: {shown}" in ffmpeg.describe(path)


def test_the_index_of_an_mp4_is_at_its_front(clip: Clip, reencoded: Any):
    content = reencoded(clip("plain.mp4")).read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "bframes=0"}),
        ("libx264", {"bf": 1}),
        ("libx264", {"x264-params": "bframes=8:b-pyramid=normal:ref=8:b-adapt=2"}),
        ("libx264", {"x264-params": "open-gop=1:keyint=8"}),
        ("libx265", {"x265-params": "bframes=0"}),
        ("libx265", {"x265-params": "bframes=8:b-adapt=2"}),
    ],
    ids=str,
)
def test_any_reordering_joins(
    clip: Clip, codec: str, options: Any, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    settings = settings_for(codec=codec, crf=23, preset="medium", options=options)
    path = reencode(clip("variable_rate.mp4"), settings, tmp_path / "a.mp4")
    assert ffmpeg.times(path) == ffmpeg.times(clip("variable_rate.mp4"))
    assert ffmpeg.logged_errors(path) == ""


def test_without_reordering_frames_are_decoded_when_they_are_shown(
    clip: Clip, settings_for: Any, tmp_path: Path
):
    settings = settings_for(preset="medium", options={"bf": 0})
    with av.open(str(reencode(clip("plain.mp4"), settings, tmp_path / "a.mp4"))) as video:
        assert all(packet.dts == packet.pts for packet in video.demux(video=0) if packet.size)


@pytest.mark.parametrize("codec", ["libx265", "ffv1"])
def test_other_codecs_give_the_same_bytes_again(clip: Clip, codec: str, settings_for: Any):
    index = load_index(clip("b_frames.mp4"))
    settings = settings_for(codec=codec, crf=23, preset="fast")
    results = {encoded(index, settings, index.n_frames)[0][2] for _ in range(4)}
    assert len(results) == 1


def test_options_of_x264_are_added_to_those_that_make_it_repeatable():
    settings = parse_settings({"output": {"options": {"x264-params": "keyint=7", "bf": 2}}}).output
    options = encoder_options("libx264", settings, 1)
    ours = encoder_options("libx264", parse_settings({}).output, 1).get("x264-params", "")
    assert options["x264-params"] == ":".join(filter(None, [ours, "keyint=7"]))
    assert options["bf"] == "2"


def test_options_reach_the_encoder(clip: Clip, settings_for: Any, tmp_path: Path):
    settings = settings_for(options={"x264-params": "keyint=5:min-keyint=5:scenecut=0"})
    with av.open(str(reencode(clip("plain.mp4"), settings, tmp_path / "a.mp4", 1000))) as video:
        keys = [packet.is_keyframe for packet in video.demux(video=0) if packet.size]
    assert [number for number, key in enumerate(keys) if key] == list(range(0, 40, 5))


@pytest.mark.parametrize(
    ("codec", "options", "message"),
    [
        ("libx264", {"bogus": 1}, "output.options: libx264 reports: unknown option bogus"),
        ("libx264", {"x264-params": "bogus=3"}, "Error parsing option 'bogus = 3'"),
        ("libx265", {"x265-params": "bogus=3"}, "Unknown option: bogus"),
        ("libx264", {"tune": "nonsense"}, "libx264 does not open for 96×64 yuv420p"),
    ],
    ids=str,
)
def test_an_option_that_the_encoder_does_not_know_is_an_error(
    clip: Clip, codec: str, options: Any, message: str, settings_for: Any
):
    with pytest.raises(EncodeError, match=re.escape(message)):
        encoded(load_index(clip("plain.mp4")), settings_for(codec=codec, options=options))


@pytest.mark.parametrize(
    ("codec", "stands_in", "preset"),
    [("h264_nvenc", "libx264", "veryfast"), ("hevc_nvenc", "libx265", "veryfast")],
)
def test_without_a_gpu_another_encoder_takes_over_and_says_so_once(
    clip: Clip,
    codec: Any,
    stands_in: str,
    preset: str,
    settings_for: Any,
    caplog: pytest.LogCaptureFixture,
):
    warn_once.cache_clear()
    index = load_index(clip("plain.mp4"))
    found = encoded(
        index, settings_for(codec=codec, crf=23, preset="p1", options={"spatial-aq": 1})
    )
    if not caplog.messages:
        pytest.skip("there is a GPU")
    assert found == encoded(index, settings_for(codec=stands_in, crf=23, preset=preset))
    assert [
        f"{stands_in} is used in this job instead" in message for message in caplog.messages
    ] == [True]


def test_another_format_than_the_one_asked_for_is_logged(
    clip: Clip, settings_for: Any, caplog: pytest.LogCaptureFixture
):
    warn_once.cache_clear()
    output = settings_for(pix_fmt="yuv420p").output
    for _ in range(2):
        output_format(load_index(clip("odd_444.mp4")), output)
    (message,) = caplog.messages
    assert "yuv444p, since yuv420p is not possible with 97×65 pixels" in message


def test_frames_too_small_for_x265_are_refused(tmp_path: Path, settings_for: Any, ffmpeg: Any):
    source = tmp_path / "tiny.mkv"
    ffmpeg.run(
        *("-v", "error", "-f", "lavfi", "-i", "testsrc2=size=34x18:rate=25:duration=1"),
        *("-c:v", "ffv1", source),
    )
    with pytest.raises(EncodeError, match="34×18; use libx264 below 64 pixels"):
        reencode(source, settings_for(codec="libx265"), tmp_path / "a.mp4")
    reencode(source, settings_for(), tmp_path / "a.mp4")
