"""Samples and false alarms: packed formats, damaged side information."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from formats import Case, by_ffmpeg

# Brightness rises by 4 from frame to frame, within the limited range.
SOURCE = (
    *("-f", "lavfi", "-i"),
    "testsrc2=size=32x16:rate=25,format=yuv420p,geq=lum='clip(lum(X,Y)*0.4+4*N,16,235)'"
    ":cb='cb(X,Y)':cr='cr(X,Y)'",
)
TEN = (*SOURCE, "-frames:v", "10")
# Of the samples of the same frames as yuv422p, by FFmpeg's command.
MEANS = (31.23, 34.19, 37.71, 41.71, 45.71, 49.71, 53.71, 57.45, 61.45, 65.45)
# Of what FFmpeg decodes of the finished streams: it leaves out what was put in.
H264_MEANS = (31.05, 34.21, 37.35, 41.35, 45.35, 49.54, 53.54, 57.22, 61.22, 65.22)
HEVC_MEANS = (30.95, 33.95, 37.33, 41.33, 45.33, 49.59, 53.59, 57.21, 61.21, 65.21)
JPEG_MEANS = (17.93, 21.22, 25.35, 29.9, 34.5, 39.24, 43.89, 48.24, 52.99, 57.63)
TIMES = [number / 25 for number in range(10)]

START = b"\0\0\0\1"
H264_EXTRAS = {
    "sei_cut_off": ("an SEI message longer than its unit", b"\x06\x05\xa2" + b"A" * 128 + b"\x80"),
    "sei_of_another_sps": ("a buffering period of an unknown sequence", b"\x06\0\1\x12\x80"),
    "sei_timing": ("a picture timing that is too long", b"\x06\1\x60" + b"\xff" * 96 + b"\x80"),
    "sei_zeros": ("an SEI message with start codes in it", b"\x06\x05\x14" + b"A" * 16 + bytes(5)),
    "filler": ("filler units", b"\x0c" + b"\xff" * 50 + b"\x80"),
    "unknown_unit": ("units of an unknown kind", b"\x1eab" + bytes(6) + b"\2cc"),
}
HEVC_EXTRAS = {
    "sei_cut_off": ("an SEI message longer than its unit", b"\x4e\1\5\xa2" + b"A" * 99 + b"\x80"),
    "captions": ("closed captions that are cut off", b"\x4e\1\4\x08\xb5\0\x31GA94\x03\x80"),
    "vps": ("a broken video parameter set of another number", b"\x40\1\x1c\1\xff\xff\x80"),
    "unknown_unit": ("units of an unknown kind", b"\x62\1ab" + bytes(6) + b"\2cc"),
}


def segment(marker: int, content: bytes) -> bytes:
    return bytes([255, marker]) + struct.pack(">H", len(content) + 2) + content


JPEG_EXTRAS = {
    "app1_length": ("an APP1 segment with too large a length", b"\xff\xe1\xff\xff"),
    "exif": ("EXIF data with random bytes", segment(0xE1, b"Exif\0\0MM\0\x2a" + b"\xff" * 40)),
    "exif_order": ("EXIF of no byte order", segment(0xE1, b"Exif\0\0XX\0\x2a" + b"\xff" * 40)),
    "icc": ("a color profile with random bytes", segment(0xE2, b"ICC_PROFILE\0\1\5" + b"\xff" * 9)),
    "app0_empty": ("an APP0 segment without a length", b"\xff\xe0\0\0"),
}


def with_extras(
    arguments: list[str], suffix: str, is_picture: Callable[[bytes], bool], extra: bytes
) -> Callable[[Any, Path], None]:
    """A maker that inserts a unit before every frame of a raw stream, and copies that."""

    def make(ffmpeg: Any, path: Path) -> None:
        raw = path.with_name(f"raw.{suffix}")
        ffmpeg.run("-v", "error", *TEN, *arguments, raw)
        parts = re.split(b"(\0?\0\0\1)", raw.read_bytes())[1:]
        stream = b""
        for code, unit in zip(parts[::2], parts[1::2], strict=True):
            stream += (START + extra if is_picture(unit) else b"") + code + unit
        raw.write_bytes(stream)
        times = ("-fflags", "+genpts", "-r", 25, "-f", suffix)
        ffmpeg.run("-v", "error", *times, "-i", raw, "-c", "copy", path)
        raw.unlink()

    return make


def jpeg_with(extra: bytes) -> Callable[[Any, Path], None]:
    """A maker that puts a segment at the start of every JPEG image."""

    def make(ffmpeg: Any, path: Path) -> None:
        plain = path.with_name("plain.mkv")
        ffmpeg.run("-v", "error", *TEN, "-c:v", "mjpeg", "-q:v", 2, plain)
        with av.open(plain) as source, av.open(path, "w") as target:
            stream: Any = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    data = bytes(packet)
                    changed = av.Packet(data[:2] + extra + data[2:])
                    changed.pts = changed.dts = packet.pts
                    changed.time_base, changed.stream = packet.time_base, stream
                    changed.is_keyframe = True
                    target.mux(changed)
        plain.unlink()

    return make


def is_h264_slice(unit: bytes) -> bool:
    return unit[0] & 31 in (1, 5)


def is_hevc_slice(unit: bytes) -> bool:
    return unit[0] >> 1 & 63 < 32 and unit[2] >= 128


H264 = ["-c:v", "libx264", "-bf", "0", "-g", "5"]
HEVC = ["-c:v", "libx265", "-x265-params", "bframes=0:keyint=5:log-level=error"]
OUTCOME = "reads it; gray is the luma samples as coded"
HARMLESS = "reads it; every row is `ok`"

CASES: list[Case] = [
    *(
        Case(
            name=f"{pix_fmt}.{ending}",
            what=f"uncompressed {pix_fmt}",
            make=by_ffmpeg(*TEN, "-c:v", codec, "-pix_fmt", pix_fmt),
            outcome=OUTCOME,
            n_frames=10,
            times=TIMES,
            means=MEANS,
            size=(16, 32),
            tolerance=tolerance,
        )
        for pix_fmt, ending, codec, tolerance in (
            ("yuyv422", "avi", "rawvideo", 0.06),
            ("yvyu422", "avi", "rawvideo", 0.06),
            ("uyvy422", "mov", "rawvideo", 0.06),
            ("yuv422p", "avi", "rawvideo", 0.06),
            ("ayuv", "nut", "rawvideo", 0.06),
            ("vuya", "nut", "rawvideo", 0.06),
            ("nv12", "nut", "rawvideo", 0.06),
            ("y210le", "nut", "rawvideo", 0.06),
            ("xv30le", "nut", "rawvideo", 0.06),
            ("yuv420p10be", "nut", "rawvideo", 0.06),
            ("yuv422p10le", "mov", "v210", 0.06),
        )
    ),
    *(
        Case(
            name=f"h264_{name}.{ending}",
            what=f"H.264 with {what} before each frame",
            make=with_extras(H264, "h264", is_h264_slice, extra),
            outcome=HARMLESS,
            n_frames=10,
            times=TIMES,
            means=H264_MEANS,
            tolerance=0.3,
        )
        for name, (what, extra) in H264_EXTRAS.items()
        for ending in (("mp4", "h264") if name != "unknown_unit" else ("mp4", "mkv"))
    ),
    *(
        Case(
            name=f"hevc_{name}.{ending}",
            what=f"HEVC with {what} before each frame",
            make=with_extras(HEVC, "hevc", is_hevc_slice, extra),
            outcome=HARMLESS,
            n_frames=10,
            times=TIMES,
            means=HEVC_MEANS,
            tolerance=0.3,
        )
        for name, (what, extra) in HEVC_EXTRAS.items()
        for ending in ("mp4", "hevc")
    ),
    *(
        Case(
            name=f"mjpeg_{name}.{ending}",
            what=f"Motion JPEG with {what} in each frame",
            make=jpeg_with(extra),
            outcome=HARMLESS,
            n_frames=10,
            times=TIMES,
            means=JPEG_MEANS,
            tolerance=0.3,
        )
        for name, (what, extra) in JPEG_EXTRAS.items()
        for ending in ("avi", "mkv")
    ),
]
