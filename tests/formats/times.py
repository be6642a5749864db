"""When frames are shown: rates, time stamps and the order of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from formats import Case, by_ffmpeg

# Frames of one gray each, so that the mean shows which frame it is.
N_FRAMES = 20
MEANS = [30.0 + 8 * number for number in range(N_FRAMES)]
# JPEG has samples in full range.
FULL_RANGE = [(mean - 16) * 255 / 219 for mean in MEANS]
# Encoders change grays a little; frames are 8 apart.
TOLERANCE = 2.0
H264 = ["-c:v", "libx264", "-g", "12", "-x264-params", "b-adapt=0:scenecut=0:weightp=0"]
HEVC = ["-c:v", "libx265", "-x265-params", "log-level=error:keyint=12:bframes=3:pools=1"]
HEVC_P = ["-c:v", "libx265", "-x265-params", "log-level=error:keyint=12:bframes=0:pools=1"]
MPEG4, MPEG2 = (["-c:v", name, "-g", "12", "-q:v", "2"] for name in ("mpeg4", "mpeg2video"))
B_FRAMES = ["-bf", "2"]


def grays(rate: str = "25", n_frames: int = N_FRAMES, size: str = "64x64") -> list[str]:
    """FFmpeg's arguments for a source of gray frames, each brighter by 8 than the one before."""
    shades = "format=yuv420p,geq=lum='30+8*N':cb=128:cr=128"
    source = f"color=size={size}:rate={rate},{shades}"
    return ["-f", "lavfi", "-i", source, "-frames:v", str(n_frames)]


def steady(rate: float | Fraction, start: float = 0.0) -> list[float]:
    """Times of all frames at a rate."""
    return [start + float(number / Fraction(rate)) for number in range(N_FRAMES)]


def case(
    name: str,
    what: str,
    arguments: Sequence[str],
    rate: float | Fraction,
    outcome: str,
    *,
    warning: str = "",
    start: float = 0.0,
) -> Case:
    """A case of `N_FRAMES` frames of `grays` at a constant rate, made by FFmpeg's command."""
    return Case(
        name,
        what,
        by_ffmpeg(*arguments),
        outcome,
        N_FRAMES,
        times=steady(rate, start),
        means=MEANS,
        rate=float(rate),
        warning=warning,
        tolerance=TOLERANCE,
    )


STATED = "uses the rate that the stream states"
IMPOSSIBLE = "assumes 25 frames per second; the summary reports it"
NONE = "assumes 25 frames per second; the summary reports it"
NTSC = Fraction(30000, 1001)


def _rate_in_avi(rate: int) -> Callable[[Any, Path], None]:
    """A maker of an AVI file whose header states another rate than that of its frames."""

    def make(ffmpeg: Any, path: Path) -> None:
        ffmpeg.run("-v", "error", *grays(), "-c:v", "mjpeg", "-q:v", "2", path)
        data = bytearray(path.read_bytes())
        at = data.index(b"strh") + 8 + 20  # scale and rate follow on type, handler, flags ...
        data[at : at + 8] = (1).to_bytes(4, "little") + rate.to_bytes(4, "little")
        path.write_bytes(data)

    return make


def _copied_from(*arguments: str, via: str, by: Sequence[str] = ()) -> Callable[[Any, Path], None]:
    """A maker that encodes to one container, and copies the packets to another."""

    def make(ffmpeg: Any, path: Path) -> None:
        first = path.with_name(f"{path.stem}_source{via}")
        ffmpeg.run("-v", "error", *arguments, first)
        ffmpeg.run("-v", "error", "-i", first, "-c", "copy", *by, path)
        first.unlink()

    return make


RAW = [
    case("p50.h264", "raw H.264 of 50 fps", [*grays("50"), *H264, "-bf", "0"], 50, STATED),
    case("b120.h264", "raw H.264 of 120 fps, B-frames", [*grays("120"), *H264], 120, STATED),
    case("field.h264", "raw interlaced H.264 of 25 frames per second",
         [*grays("25"), *H264, "-flags", "+ildct+ilme"], 25, STATED),
    case("slow.h264", "raw H.264 of one frame per 10 s", [*grays("1/10"), *H264], 0.1, STATED),
    case("p50.hevc", "raw H.265 of 50 fps", [*grays("50"), *HEVC_P], 50, STATED),
    case("b50.hevc", "raw H.265 of 50 fps, B-frames", [*grays("50"), *HEVC], 50, STATED),
    case("p50.m4v", "raw MPEG-4 of 50 fps", [*grays("50"), *MPEG4, "-f", "m4v"], 50, STATED),
    case("ntsc.m4v", "raw MPEG-4 of 29.97 fps, B-frames",
         [*grays("30000/1001"), *MPEG4, *B_FRAMES, "-f", "m4v"], NTSC,
         "uses the times in the frame headers"),
    case("b50.m2v", "raw MPEG-2 of 50 fps, B-frames",
         [*grays("50"), *MPEG2, *B_FRAMES], 50, STATED),
    case("ntsc.m1v", "raw MPEG-1 of 29.97 fps",
         [*grays("30000/1001"), "-c:v", "mpeg1video", "-q:v", "2"], NTSC, STATED),
    case("mhz.h264", "raw H.264 that states 1 MHz",
         [*grays(), *H264, "-bsf:v", "h264_metadata=tick_rate=2000000"], 25, IMPOSSIBLE,
         warning="states 1000000 frames per second, which no camera has; 25 are assumed"),
    case("clock.h264", "raw H.264 that states its clock of 90 kHz as rate",
         [*grays(), *H264, "-bsf:v", "h264_metadata=tick_rate=180000"], 25, IMPOSSIBLE,
         warning="states 90000 frames per second, which no camera has"),
    case("mhz.hevc", "raw H.265 that states 1 MHz",
         [*grays(), *HEVC, "-bsf:v", "hevc_metadata=tick_rate=1000000"], 25, IMPOSSIBLE,
         warning="states 1000000 frames per second, which no camera has"),
    case("mhz.m4v", "raw MPEG-4 that states 65535 fps",
         [*grays("65535"), *MPEG4, "-f", "m4v"], 25, IMPOSSIBLE,
         warning="states 65535 frames per second, which no camera has"),
    case("silent.hevc", "raw H.265 that states no rate",
         [*grays(), "-c:v", "libx265", "-x265-params",
          "log-level=error:vui-timing-info=0:pools=1"], 25, NONE,
         warning="states no frames per second; 25 are assumed"),
    case("silent.obu", "raw AV1 that states no rate",
         [*grays("50"), "-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"], 25, NONE,
         warning="states no frames per second"),
    Case("silent.mjpeg", "raw JPEGs", by_ffmpeg(*grays("50"), "-c:v", "mjpeg", "-q:v", "2"), NONE,
         N_FRAMES, times=steady(25), means=FULL_RANGE, rate=25, tolerance=TOLERANCE,
         warning="states no frames per second"),
    case("p50.y4m", "raw YUV of 50 fps", grays("50"), 50, STATED),
    case("mhz.y4m", "raw YUV that states 1 MHz", grays("1000000"), 25, IMPOSSIBLE,
         warning="states 1000000 frames per second"),
    case("pal.dv", "raw DV of 25 fps",
         [*grays("25", size="720x576"), "-c:v", "dvvideo"], 25, STATED),
    Case("mhz.avi", "MJPEG in AVI that states 1 MHz", _rate_in_avi(1_000_000), IMPOSSIBLE,
         N_FRAMES, times=steady(25), means=FULL_RANGE, rate=25, tolerance=TOLERANCE,
         warning="states 1000000 frames per second"),
    Case("no_times.mpg", "raw H.264 of 50 fps copied into a program stream, without times",
         _copied_from(*grays("50"), *H264, via=".h264"), STATED, N_FRAMES,
         times=steady(50), means=MEANS, rate=50, tolerance=TOLERANCE),
]  # fmt: skip
COUNTED = "counts the frames; they get the times in ascending order"


def without_offsets(name: str, what: str, codec: Sequence[str], start: float = 0.0) -> Case:
    """Reordered frames whose presentation times are their decoding times."""
    arguments = [*grays("25"), *codec, "-bsf:v", "setts=ts=N/25/TB"]
    return case(
        name, f"{what} with B-frames, pts equal to dts", arguments, 25, COUNTED, start=start
    )


REORDERED = [
    *(
        without_offsets(f"h264_no_offsets.{ending}", f"H.264 in {container}", H264, start)
        for ending, container, start in (
            *(("mp4", "MP4", 0), ("mov", "QuickTime", 0), ("mkv", "Matroska", 0)),
            *(("ts", "MPEG-TS", 1.4), ("flv", "Flash", 0), ("nut", "NUT", 0)),
        )
    ),
    *(
        without_offsets(f"hevc_no_offsets.{ending}", f"H.265 in {container}", HEVC, start)
        for ending, container, start in (
            *(("mp4", "MP4", 0), ("mkv", "Matroska", 0), ("ts", "MPEG-TS", 1.4)),
        )
    ),
    *(
        without_offsets(f"{name}_no_offsets.{ending}", f"{what} in {container}", codec)
        for name, what, codec in (
            *(("mpeg4", "MPEG-4", [*MPEG4, *B_FRAMES]), ("mpeg2", "MPEG-2", [*MPEG2, *B_FRAMES])),
        )
        for ending, container in (("mp4", "MP4"), ("mkv", "Matroska"))
    ),
    Case("avi_copied.mp4", "H.264 with B-frames, copied from AVI into MP4",
         _copied_from(*grays("25"), *H264, via=".avi"), COUNTED, N_FRAMES,
         times=steady(25), means=MEANS, rate=25, tolerance=TOLERANCE),
    Case("raw_copied.avi", "raw H.264 with B-frames, copied into AVI",
         _copied_from(*grays("25"), *H264, via=".h264"), COUNTED, N_FRAMES,
         times=steady(25), means=MEANS, rate=25, tolerance=TOLERANCE),
]  # fmt: skip

# As cameras and screen recorders have it that count milliseconds: steps of 40, 40 and 19.
UNEVEN = ["-vf", "settb=1/1000,setpts=33*N+7*mod(N\\,3)", "-fps_mode", "passthrough"]
UNEVEN += ["-enc_time_base", "1:1000"]
UNEVEN_TIMES = [(33 * number + 7 * (number % 3)) / 1000 for number in range(N_FRAMES)]
MEAN_RATE = (N_FRAMES - 1) / UNEVEN_TIMES[-1]
RATES = [
    Case(name, what, by_ffmpeg(*grays("25"), *UNEVEN, *codec),
         "uses the times; the rate in the summary is theirs, not the container's", N_FRAMES,
         times=UNEVEN_TIMES, means=MEANS, rate=MEAN_RATE, tolerance=TOLERANCE)
    for name, what, codec in (
        ("uneven.wmv", "WMV in milliseconds", ["-c:v", "wmv2", "-q:v", "2"]),
        ("uneven.webm", "live WebM in milliseconds",
         ["-c:v", "libvpx", "-live", "1", "-crf", "4", "-b:v", "2M"]),
        ("uneven.flv", "Flash in milliseconds", [*H264, "-bf", "0"]),
    )
]  # fmt: skip

CASES: list[Case] = [*RAW, *REORDERED, *RATES]
