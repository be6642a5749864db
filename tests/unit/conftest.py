"""Tiny real videos, made by FFmpeg's command, which is also the independent reference."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
N_FRAMES = 40


def source(rate: str = "25") -> list[str]:
    """FFmpeg's moving test picture: `N_FRAMES` frames, every one different."""
    return ["-f", "lavfi", "-i", f"testsrc2=size=96x64:rate={rate}", "-frames:v", str(N_FRAMES)]


H264 = ["-c:v", "libx264", "-g", "12", "-pix_fmt", "yuv420p"]
B_FRAMES = [*H264, "-bf", "3"]
# In milliseconds: a gap in the middle, and steps of 40, 44, 52, 28 and 36.
UNEVEN = "settb=1/1000,setpts=40*N+4*mod(N*N\\,5)+280*gte(N\\,20)"
# testsrc2 itself makes even sizes only.
ODD = "scale=97:65"
TONE = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1.6:sample_rate=44100"]

# Name of the clip: arguments of the FFmpeg command that makes it. Every clip has N_FRAMES frames.
RECIPES: dict[str, list[str]] = {
    "plain.mp4": [*source(), *H264, "-bf", "0"],
    "b_frames.mp4": [*source(), *B_FRAMES],
    "open_gop.mkv": [*source(), *B_FRAMES, "-x264-params", "open-gop=1:scenecut=0"],
    "hevc_open_gop.mp4": [
        *(*source(), "-c:v", "libx265", "-pix_fmt", "yuv420p", "-tag:v", "hvc1"),
        *("-x265-params", "keyint=12:min-keyint=12:open-gop=1:bframes=3:log-level=error"),
    ],
    "variable_rate.mp4": [
        *(*source(), *B_FRAMES, "-vf", UNEVEN),
        *("-fps_mode", "passthrough", "-enc_time_base", "1:1000"),
    ],
    "late_start.mp4": [*source(), *B_FRAMES, "-output_ts_offset", "2.5"],
    "late_start.mkv": [*source(), *B_FRAMES, "-output_ts_offset", "2.5"],
    "odd_444.mp4": [*source(), "-vf", ODD, "-c:v", "libx264", "-g", "12", "-pix_fmt", "yuv444p"],
    "odd_420.webm": [
        *(*source(), "-vf", ODD, "-c:v", "libvpx-vp9", "-g", "12", "-pix_fmt", "yuv420p"),
        *("-deadline", "realtime", "-cpu-used", "8"),
    ],
    "audio.mp4": [*TONE, *source(), *B_FRAMES, "-c:a", "aac"],
    "matroska.mkv": [*source(), *B_FRAMES],
    "mpeg4.avi": [*source(), "-c:v", "mpeg4", "-g", "12"],
    "h264.avi": [*source(), *H264, "-bf", "0"],
    "mjpeg.avi": [*TONE, *source(), "-c:v", "mjpeg", "-c:a", "mp2"],
    "b_frames.avi": [*source(), *B_FRAMES],
    "transport.ts": [*source(), *B_FRAMES],
    "program.mpg": [*source(), "-c:v", "mpeg2video", "-g", "12", "-bf", "2"],
    "raw.h264": [*source(), *B_FRAMES],
    "ten_bit.mp4": [*source(), "-c:v", "libx264", "-g", "12", "-pix_fmt", "yuv420p10le"],
    "full_range.mp4": [
        *(*source(), *B_FRAMES, "-vf"),
        "scale=out_range=full:out_color_matrix=bt709,setparams=color_primaries=bt709:"
        "color_trc=bt709",
    ],
    "rgb.mkv": [*source(), "-c:v", "libx264rgb", "-g", "12", "-crf", "0"],
    # A camera of 3000 frames a second in a container that counts milliseconds.
    "repeated_times.mkv": [*source(rate="3000"), *H264, "-bf", "0"],
}


class FFmpeg:
    """The FFmpeg command."""

    def __init__(self) -> None:
        self.exe = imageio_ffmpeg.get_ffmpeg_exe()

    def run(self, *args: object, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        command = [self.exe, "-hide_banner", "-nostdin", "-y", *map(str, args)]
        done = subprocess.run(command, capture_output=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{command}\n{done.stderr.decode(errors='replace')}")
        return done

    def describe(self, path: object) -> str:
        """What FFmpeg prints about the streams of a file."""
        return self.run("-i", path, check=False).stderr.decode(errors="replace")

    def decode(self, path: object, pix_fmt: str, *options: str, stream: str = "0:v:0") -> bytes:
        """All frames of a video in raw form."""
        return self.run(
            *("-v", "error", "-i", path, "-map", stream, "-fps_mode", "passthrough", *options),
            *("-pix_fmt", pix_fmt, "-f", "rawvideo", "-"),
        ).stdout

    def rgb(self, path: object, height: int, width: int, *options: str) -> np.ndarray:
        """N×H×W×3; chroma planes are enlarged with FFmpeg's quickest kernel."""
        raw = self.decode(path, "rgb24", "-sws_flags", "fast_bilinear", *options)
        return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)

    def luma(self, path: object, height: int, width: int, pix_fmt: str = "yuv420p") -> np.ndarray:
        """The Y planes as coded, N×H×W; `pix_fmt` is the file's own, so nothing is converted."""
        raw = self.decode(path, pix_fmt)
        dtype = np.dtype("<u2") if "10le" in pix_fmt else np.dtype(np.uint8)
        chroma = (-(-height // 2), -(-width // 2)) if "420" in pix_fmt else (height, width)
        frame = height * width + 2 * chroma[0] * chroma[1]
        samples = np.frombuffer(raw, dtype).reshape(-1, frame)
        return samples[:, : height * width].reshape(-1, height, width)

    def times(self, path: object, stream: str = "0:v:0") -> list[Fraction]:
        """Presentation time in seconds of every decoded frame."""
        text = self.run(
            *("-copyts", "-i", path, "-map", stream, "-fps_mode", "passthrough"),
            *("-vf", "showinfo", "-f", "null", "-"),
        ).stderr.decode(errors="replace")
        base = re.search(r"config in time_base: (\d+/\d+)", text)
        assert base is not None, text
        return [int(pts) * Fraction(base[1]) for pts in re.findall(r" pts: *(-?\d+) ", text)]

    def packets(self, path: object, stream: str) -> list[tuple[Fraction, str]]:
        """Presentation time and MD5 of every packet."""
        text = self.run(
            *("-v", "error", "-copyts", "-i", path, "-map", stream),
            *("-c", "copy", "-f", "framemd5", "-"),
        ).stdout.decode()
        base = re.search(r"#tb 0: (\d+/\d+)", text)
        assert base is not None, text
        rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
        return [(int(row[2]) * Fraction(base[1]), row[5].strip()) for row in rows]

    def complaints(self, path: object) -> str:
        """What FFmpeg has to say against a file."""
        # In the file's own time base: FFmpeg would round uneven times to the average rate.
        exact = ["-enc_time_base:v", "demux"]
        done = self.run("-v", "error", "-i", path, *exact, "-f", "null", "-", check=False)
        return done.stderr.decode(errors="replace")


@pytest.fixture(scope="session")
def ffmpeg() -> FFmpeg:
    return FFmpeg()


@pytest.fixture(scope="session")
def clip(ffmpeg: FFmpeg, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a clip of `RECIPES` by name, made when first asked for; not to be written to."""
    folder = tmp_path_factory.mktemp("clips")

    def path_of(name: str) -> Path:
        path = folder / name
        if not path.exists():
            ffmpeg.run("-v", "error", *RECIPES[name], path)
        return path

    return path_of


@pytest.fixture(scope="session")
def rotated_clip(clip: Callable[[str], Path], ffmpeg: FFmpeg) -> Callable[[int, bool], Path]:
    """A clip whose display matrix turns it by multiples of 90 degrees, mirrored or not."""

    def path_of(degrees: int, mirrored: bool = False) -> Path:
        plain = clip("b_frames.mp4")
        path = plain.with_name(f"rotated_{degrees}_{mirrored}.mp4")
        if not path.exists():
            matrix = ["-display_rotation", degrees, *(["-display_hflip"] if mirrored else [])]
            ffmpeg.run("-v", "error", *matrix, "-i", plain, "-c", "copy", path)
        return path

    return path_of


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def n_frames() -> int:
    """Number of frames of every clip of `RECIPES`."""
    return N_FRAMES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`any_clip` stands for every name in `RECIPES`."""
    if "any_clip" in metafunc.fixturenames:
        metafunc.parametrize("any_clip", list(RECIPES))
