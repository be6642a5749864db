"""`pvio doctor`: check that a run has everything that it needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pvio
from pvio.cli.run import snakefile
from pvio.config.codecs import CODECS, CodecName
from pvio.errors import PvioError
from pvio.media.ffmpeg.shared_libraries import (
    bundled_folder,
    environment_for_torchcodec,
    system_has_ffmpeg,
)

_PACKAGES = (
    "torch", "torchcodec", "av", "imageio", "imageio-ffmpeg", "numpy", "pyarrow", "snakemake",
    "pydantic",
)  # fmt: skip


def diagnose(report: Callable[[str], None]) -> bool:
    """Check whether a run can work here.

    Args:
        report: is called with each line of the findings. Some take seconds.

    Returns:
        Whether everything that a run needs is there.
    """
    report(f"pvio {pvio.__version__}, Python {platform.python_version()}, {platform.platform()}")
    healthy = True
    for package in _PACKAGES:
        try:
            report(f"  {package:<15} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            healthy = False
            report(f"  {package:<15} NOT INSTALLED: python -m pip install {package}")
    try:
        report(f"Workflow of `pvio run`: {snakefile()}")
    except PvioError as error:
        healthy = False
        report(f"Workflow of `pvio run`: MISSING: {error}")
    for line in (*_ffmpeg_lines(), *_device_lines()):
        report(line)
    report("pvio is ready." if healthy else "pvio cannot run until the problems above are fixed.")
    return healthy


def _ffmpeg_lines() -> Iterator[str]:
    import av
    import imageio_ffmpeg

    version = ".".join(str(part) for part in av.library_versions["libavcodec"])
    works = {name: _opens(name) for name in CODECS}
    encoders = ", ".join(name for name, is_usable in works.items() if is_usable)
    absent = ", ".join(name for name, is_usable in works.items() if not is_usable)
    yield "FFmpeg"
    yield f"  pvio decodes and encodes with PyAV's own: libavcodec {version}"
    yield f"  encoders: {encoders}" + (f"; not usable here: {absent}" if absent else "")
    yield (
        f"  command for write_frames_to_video: {imageio_ffmpeg.get_ffmpeg_version()} "
        f"({imageio_ffmpeg.get_ffmpeg_exe()})"
    )
    yield f"  torchcodec uses: {_torchcodec_source()}"


def _opens(encoder: CodecName) -> bool:
    """Whether an encoder can be used; NVENC's exist without a GPU, too."""
    import av

    try:
        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = 256, 256, "yuv420p"
        context.time_base = Fraction(1, 25)
        if encoder == "libx265":
            context.options = {"x265-params": "log-level=none"}
        context.open()
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def _torchcodec_source() -> str:
    source = "the system's libraries" if system_has_ffmpeg() else f"PyAV's ({bundled_folder()})"
    environment = environment_for_torchcodec() or dict(os.environ)
    probe = subprocess.run(
        [sys.executable, "-c", "import torchcodec.decoders"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode == 0:
        return source + ", loads"
    return source + ", DOES NOT LOAD (only `decoder: torchcodec` needs it)"


def _device_lines() -> Iterator[str]:
    import torch

    yield "Devices"
    yield f"  cpu: {os.cpu_count()} cores"
    for number in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(number)
        yield f"  cuda:{number}: {name}, {_decoding(number)}"
    if torch.cuda.device_count() > 1:
        yield "  device: auto takes the first device that no other job of yours uses"
    if not torch.cuda.is_available():
        yield f"  no CUDA device: device: auto means cpu, {_decoding(0)}"


def _decoding(number: int) -> str:
    from pvio.media.decoders.nvdec import device_error

    if reason := device_error(number):
        return f"decoder: cuda cannot open a device ({reason}) and uses PyAV"
    return "can be opened by decoder: cuda"
