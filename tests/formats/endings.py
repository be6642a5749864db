"""Endings of video files that folders are searched for."""

from __future__ import annotations

from formats import Case, by_ffmpeg

# Frame i is a uniform frame of luma 40 + 20 i, which any lossy codec keeps.
_STEPS = "color=black:size={size}:rate=25,geq=lum=40+20*N:cb=128:cr=128,format=yuv420p"
_NO_RATE = "states no frames per second; 25 are assumed"
# `start` and `rate` are what FFmpeg's command reports of the file.
_FOUND = "finds it in folders and reads it like any other"


def _ending(
    name: str,
    what: str,
    *options: str,
    size: str = "64x48",
    full_range: bool = False,
    warning: str = "",
    start: float = 0.0,
    rate: float = 25.0,
) -> Case:
    source = ["-f", "lavfi", "-i", _STEPS.format(size=size), "-frames:v", "6"]
    return Case(
        name=name,
        what=what,
        make=by_ffmpeg(*source, *options),
        outcome=_FOUND,
        n_frames=6,
        times=[start + i / rate for i in range(6)],
        # FFmpeg's encoder of JPEG stretches 16 to 235 to 0 to 255.
        means=[(24 + 20 * i) * 255 / 219 if full_range else 40 + 20 * i for i in range(6)],
        tolerance=1.5,
        warning=warning,
    )


CASES: list[Case] = [
    _ending("ending.mod", "MPEG-2 program stream of a camcorder", "-f", "vob", start=0.54),
    _ending("ending.tod", "H.264 transport stream of a camcorder", "-f", "mpegts", start=1.44),
    _ending("ending.vob", "MPEG-2 program stream of a DVD", start=0.54),
    _ending("ending.dv", "DV stream", "-f", "dv", size="720x576"),
    _ending("ending.wtv", "MPEG-2 in a recording of television", "-c:v", "mpeg2video", start=0.04),
    _ending("ending.asf", "WMV 8 in ASF", "-c:v", "wmv2"),
    _ending("ending.3g2", "MPEG-4 of a phone", "-c:v", "mpeg4"),
    _ending("ending.f4v", "H.264 in F4V", "-c:v", "libx264", "-bf", "0"),
    _ending("ending.mp4v", "MPEG-4 in MP4", "-c:v", "mpeg4", "-f", "mp4"),
    _ending("ending.divx", "MPEG-4 in AVI", "-c:v", "mpeg4", "-f", "avi"),
    _ending("ending.nut", "H.264 in NUT", "-c:v", "libx264", start=0.08),
    _ending("ending.rm", "RealVideo 2", "-c:v", "rv20"),
    _ending("ending.264", "H.264 without a container", "-c:v", "libx264", "-f", "h264"),
    _ending(
        "ending.265", "HEVC without a container", "-c:v", "libx265", "-x265-params", "log-level=0"
    ),
    _ending("ending.ivf", "VP9 in IVF", "-c:v", "libvpx-vp9"),
    _ending(
        "ending.obu",
        "AV1 without a container",
        "-c:v",
        "libaom-av1",
        "-cpu-used",
        "8",
        warning=_NO_RATE,
    ),
    _ending("ending.m1v", "MPEG-1 without a container", "-f", "mpeg1video"),
    _ending("ending.m2v", "MPEG-2 without a container", "-f", "mpeg2video"),
    _ending("ending.mjpeg", "JPEG images in a row", "-q:v", "2", full_range=True, warning=_NO_RATE),
    _ending(
        "ending.h263",
        "H.263 without a container",
        "-c:v",
        "h263",
        size="176x144",
        rate=30000 / 1001,
    ),
]
