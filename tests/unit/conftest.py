"""Tiny real videos, made by FFmpeg's command, which is also the independent reference."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from clips import MORE_KINDS, N_FRAMES, RECIPES, REPOSITORY
from encoding import MODELS, reencode, settings_of
from made_once import made_once, shared_folder
from stages import HERE

from pvio.config.settings import Settings


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
        """N×H×W×3; chroma samples are repeated where they are fewer than those of luma."""
        raw = self.decode(path, "rgb24", "-sws_flags", "neighbor", *options)
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

    def logged_errors(self, path: object) -> str:
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
    """Path of a clip of tests/clips.py by name, made when first asked for; not to be written to."""
    folder = shared_folder(tmp_path_factory, "clips")
    recipes = RECIPES | MORE_KINDS

    def path_of(name: str) -> Path:
        def make(path: Path) -> None:
            arguments = [re.sub(r"{(.+?)}", lambda m: str(path_of(m[1])), a) for a in recipes[name]]
            ffmpeg.run("-v", "error", *arguments, path)

        return made_once(folder / name, make)

    return path_of


@pytest.fixture(scope="session")
def rotated_clip(clip: Callable[[str], Path], ffmpeg: FFmpeg) -> Callable[[int, bool], Path]:
    """A clip whose display matrix turns it by multiples of 90 degrees, mirrored or not."""

    def path_of(degrees: int, mirrored: bool = False) -> Path:
        plain = clip("b_frames.mp4")
        matrix = ["-display_rotation", degrees, *(["-display_hflip"] if mirrored else [])]
        return made_once(
            plain.with_name(f"rotated_{degrees}_{mirrored}.mp4"),
            lambda path: ffmpeg.run("-v", "error", *matrix, "-i", plain, "-c", "copy", path),
        )

    return path_of


@pytest.fixture(scope="module")
def settings_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Settings]]:
    """Settings with a model of `MODELS` that draws nothing, lossless by default."""
    file = tmp_path_factory.mktemp("models") / "encode_models.py"
    file.write_text(MODELS)
    path = sys.path.copy()
    yield lambda name="Quiet", **output: settings_of(file, name, **output)
    sys.path[:] = path


@pytest.fixture(scope="module")
def reencoded(settings_for: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The re-encoded video of a source, of several segments, lossless by default."""
    folder = shared_folder(tmp_path_factory, "reencoded")

    def path_of(source: Path, **output: Any) -> Path:
        settings = settings_for(**output)
        words = "_".join(f"{name}={value}" for name, value in output.items())
        path = folder / f"{source.name}_{words}{settings.output.suffix}"
        return made_once(path, lambda unfinished: reencode(source, settings, unfinished))

    return path_of


@pytest.fixture(scope="session")
def in_this_process() -> Callable[[pytest.MonkeyPatch], None]:
    """Lets jobs compute in the process of the test, where PyTorch is loaded already.

    That a child process does it otherwise is for test_supervised.py and the tests of the workflow.
    """

    def compute_here(patch: pytest.MonkeyPatch) -> None:
        for name, stand_in in HERE.items():
            patch.setattr(name, stand_in)

    return compute_here


@pytest.fixture(scope="session")
def real_clip(repository: Path) -> Callable[[str], Path]:
    """Path of one of the real clips that may be next to the repository."""

    def path_of(name: str) -> Path:
        path = repository.parent / "shared" / "videos" / name
        if not path.exists():
            pytest.skip("the real clips are not next to the repository (../shared/videos)")
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
