"""Opening a file opens this file and no other, whatever it is called and whatever is in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import pvio
import pvio.media.ffmpeg.container
from pvio.collection.sources import Source
from pvio.errors import UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.encode.audio_metadata import needs_mdta_tags
from pvio.media.ffmpeg.container import open_container
from pvio.media.index.build import build_index
from pvio.media.index.cached import load_index
from pvio.video_io import get_video_metadata, read_frames_from_video, write_frames_to_video

N_FRAMES = 6
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
STREAM = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
# Text that refers to another file, the names it may go by, and what the reason says.
REFERRING = {
    "ffconcat version 1.0\nfile target.mp4\n": (
        ("list.mp4", "list.mkv", "list.ffconcat"),
        r"playlist \(ffconcat\)",
    ),
    PLAYLIST: (("list.m3u8", "list.m3u", "list.mp4", "list.m4v"), r"playlist \(HLS"),
    STREAM: (("stream.sdp", "stream.mp4"), r"network stream \(SDP\)"),
}
CASES = [
    pytest.param(name, text, message, id=name)
    for text, (names, message) in REFERRING.items()
    for name in names
]
# Each looks like a protocol, an option or a pattern of FFmpeg's, or is no text.
NAMES = (
    "2024-05-01T12:30:00.mp4",
    "subfile,,start,0,end,0,,:target.mp4",
    "concat:target.mp4|target.mp4",
    "file:target.mp4",
    "http:x.mp4",
    "data:x.mp4",
    "-i.mp4",
    "x%03d.mp4",
    os.fsdecode(b"caf\xe9.mp4"),
)


@pytest.fixture
def here(ffmpeg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `target.mp4`, black, and `white.mp4`."""
    for name, color in (("target.mp4", "black"), ("white.mp4", "white")):
        source = f"color={color}:size=32x32:rate=25"
        ffmpeg.run(
            *("-v", "error", "-f", "lavfi", "-i", source, "-frames:v", str(N_FRAMES)),
            *("-pix_fmt", "yuv420p", tmp_path / name),
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "text", "message"), CASES)
def test_a_file_that_refers_to_others_is_refused(here: Path, name: str, text: str, message: str):
    (here / name).write_text(text.format(target=here / "target.mp4"))
    for path in (name, str(here / name)):
        with pytest.raises(UnreadableVideo, match=message):
            build_index(Source(path, ""))


@pytest.mark.parametrize("opened", ["reader", "audio", "like", "info", "loader", "video_io"])
def test_it_is_refused_wherever_a_file_is_opened(
    here: Path, opened: str, monkeypatch: pytest.MonkeyPatch
):
    """Also where the file was a video when it was indexed."""
    shutil.copy("target.mp4", "list.mp4")
    index = load_index("list.mp4")
    (here / "list.mp4").write_text("ffconcat version 1.0\nfile target.mp4\n")
    doing: dict[str, Callable[[], object]] = {
        "reader": lambda: list(open_reader(index).frames(0, N_FRAMES)),
        "audio": lambda: needs_mdta_tags(index),
        "like": lambda: pvio.VideoWriter("out.mp4", like="list.mp4"),
        "info": lambda: build_index(Source("list.mp4", "")),
        "loader": lambda: load_index(Path("list.mp4")),
        "video_io": lambda: read_frames_from_video("list.mp4"),
    }
    with pytest.raises(ValueError, match=r"playlist \(ffconcat\)"):
        doing[opened]()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_never_taken_for_a_protocol_or_a_pattern(here: Path, name: str):
    shutil.copy("white.mp4", here / name)
    for path in (name, str(here / name)):
        with open_container(path) as container:
            assert container.streams.video[0].frames == N_FRAMES
        frames, _ = read_frames_from_video(path)
        assert len(frames) == N_FRAMES
        assert np.mean(frames[0]) > 250  # of white.mp4, not of target.mp4
        assert get_video_metadata(path, cache_metadata=False)["n_frames"] == N_FRAMES


@pytest.mark.parametrize("name", ["concat:a.mp4|b.mp4", "subfile,,start,0,end,0,,:a.mp4"])
def test_no_protocol_but_that_of_files_is_allowed(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Also where a name is taken for one."""
    shutil.copy("target.mp4", "a.mp4")
    shutil.copy("target.mp4", "b.mp4")
    with av.open(name):  # FFmpeg itself opens it
        pass
    monkeypatch.setattr(pvio.media.ffmpeg.container, "absolute_path", str)
    with open_container("a.mp4") as container:
        assert container.streams.video[0].frames == N_FRAMES
    with pytest.raises(av.error.FFmpegError):
        open_container(name)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_video_is_written_under_the_name_that_is_asked_for(here: Path, name: str):
    frames = [np.full((32, 32, 3), 255, np.uint8)] * N_FRAMES
    before = set(os.listdir(here))
    write_frames_to_video(name, frames, 25)
    assert set(os.listdir(here)) == before | {name}
    assert len(read_frames_from_video(str(here / name))[0]) == N_FRAMES
    os.unlink(name)
    with pvio.VideoWriter(name, rate=25) as writer:
        for frame in frames:
            writer.write(frame)
    assert set(os.listdir(here)) == before | {name}
    assert len(read_frames_from_video(str(here / name))[0]) == N_FRAMES


def test_no_format_is_allowed_that_opens_other_files(here: Path):
    """FFmpeg's demuxers by name: a new one that is a playlist has to be refused by name, too."""
    from pvio.media.ffmpeg.container import _formats

    allowed = set(_formats().split(","))
    assert {"mov", "matroska", "avi", "mpegts", "mpeg", "h264", "png_pipe", "gif"} <= allowed
    suspicious = ("concat", "playlist", "hls", "dash", "sdp", "rtsp", "rtp", "sap", "script")
    for name in allowed:
        form = av.ContainerFormat(name, "r") if _is_input(name) else None
        if form is None or name in ("rtp_mpegts",):
            continue
        # No device and no playlist; "webm_dash_manifest" and the like.
        assert not any(word in name for word in suspicious), name
        assert "capture" not in form.long_name.lower(), name
        assert "playlist" not in form.long_name.lower(), name


def _is_input(name: str) -> bool:
    try:
        return av.ContainerFormat(name, "r").is_input
    except ValueError:
        return False
