"""Which packets are frames: fields, hidden frames, changes of size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import av

from formats import DATA, Case, by_ffmpeg, copied

N_FRAMES = 40
TIMES = [0.04 * number for number in range(N_FRAMES)]
_VOP = b"\0\0\1\xb6"
_B_VOP = 2


def source(size: str = "96x64", more: int = 0, n_frames: int = N_FRAMES) -> list[str]:
    """FFmpeg's moving test pattern, whose luma rises by 4 per frame, from about 34 + `more` on."""
    luma = f"geq=lum='clip(lum(X,Y)*0.4+{more}+4*N,16,235)':cb='cb(X,Y)':cr='cr(X,Y)'"
    frames_of = f"testsrc2=size={size}:rate=25,format=yuv420p,{luma}"
    return ["-f", "lavfi", "-i", frames_of, "-frames:v", str(n_frames)]


# Mean luma of what FFmpeg's command decodes of these files.
VP8_MEANS = [
    *(34.42, 37.54, 41.24, 44.96, 48.89, 52.84, 56.78, 60.74, 64.69, 68.59, 72.79, 76.48, 80.65),
    *(84.55, 88.58, 92.77, 96.72, 100.8, 104.7, 108.7, 113, 116.9, 121, 125.1, 129, 133.3, 137),
    *(141.3, 145, 149.1, 153.2, 157.2, 161.4, 165.3, 169.4, 173.6, 177.6, 181.5, 185.4, 189.3),
]
# Two hidden frames take a frame period each of containers that count packets.
_VP8_TIMES = [0.04 * number for number in range(42) if number not in (1, 16)]
_VP9_MEANS = [
    *(34.40, 37.43, 41.21, 44.89, 48.80, 52.86, 56.59, 60.70, 64.63, 68.64, 72.79, 76.60, 80.58),
    *(84.57, 88.56, 92.80, 96.69, 100.71, 104.55, 108.51, 112.96, 116.76, 121.0, 124.81, 129.1),
    *(133.23, 137.01, 141.19, 145.04, 149.06, 153.19, 157.1, 161.32, 165.12, 169.33, 173.58),
    *(177.6, 181.54, 185.51, 189.38),
]
_AV1_MEANS = [
    *(34.43, 37.54, 41.29, 44.97, 48.89, 52.94, 56.85, 60.75, 64.69, 68.60, 72.83, 76.71, 80.7),
    *(84.59, 88.61, 92.81, 96.77, 100.83, 104.73, 108.75, 112.99, 116.95, 121.07, 125.0),
]
# IVF moves a hidden frame's time to a unit after that of the previous frame.
_AV1_IVF_TIMES = [
    *(0, 0.043, 0.08, 0.12, 0.161, 0.2, 0.24, 0.28, 0.321, 0.36, 0.4, 0.441, 0.48, 0.52, 0.56),
    *(0.603, 0.64, 0.68, 0.72, 0.761, 0.8, 0.84, 0.88, 0.92),
]
FIELD_MEANS = [105, 115, 125, 135, 145, 155, 165, 75]
FIELD_TIMES = TIMES[:8]


class Packet(NamedTuple):
    """A packet to write: what of the first file it is, at which frame period."""

    data: bytes
    is_key: bool
    pts: int
    duration: int = 1


def packets_of(path: Path) -> list[Packet]:
    """The packets of a file, numbered."""
    with av.open(str(path)) as container:
        packets = [each for each in container.demux(video=0) if each.size]
        return [Packet(bytes(each), each.is_keyframe, n) for n, each in enumerate(packets)]


def write(path: Path, like: Path, packets: Iterable[Packet], rate: int = 25) -> None:
    """Write packets in this order, with the headers of another file."""
    with av.open(str(like)) as first, av.open(str(path), "w") as file:
        stream = file.add_stream_from_template(first.streams.video[0])
        for data, is_key, pts, duration in packets:
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, rate)
            packet.pts = packet.dts = pts
            packet.duration, packet.is_keyframe = duration, is_key
            file.mux(packet)


def remuxed(first: Callable[[Any, Path], None], name: str, *how: str) -> Callable[..., None]:
    """A maker that copies the packets of another file into a container, or through a filter."""

    def make(ffmpeg: Any, path: Path) -> None:
        other = path.with_name(f"first_{path.stem}_{name}")
        first(ffmpeg, other)
        ffmpeg.run("-v", "error", "-i", other, "-c", "copy", *how, path)
        other.unlink()

    return make


def _fields(change: Callable[[list[Packet]], Iterable[Packet]]) -> Callable[[Any, Path], None]:
    """A maker of the coded fields in data/fields.mp4, changed: two fields of 1/50 s a frame."""

    def make(_ffmpeg: Any, path: Path) -> None:
        first = DATA / "fields.mp4"
        write(path, first, change(packets_of(first)), rate=50)

    return make


def _in_pairs(fields: list[Packet]) -> list[Packet]:
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [Packet(a.data + b.data, a.is_key, a.pts, 2) for a, b in pairs]


def _hidden_vp8(ffmpeg: Any, path: Path) -> None:
    log = path.with_name(f"{path.name}.pass")
    for number in (1, 2):
        ffmpeg.run(
            *("-v", "error", *source(), "-c:v", "libvpx", "-b:v", "150k", "-auto-alt-ref", "1"),
            *("-lag-in-frames", "16", "-g", "40", "-pass", number, "-passlogfile", log, path),
        )
    for file in path.parent.glob(f"{log.name}*"):
        file.unlink()


_HIDDEN_VP9 = by_ffmpeg(
    *(*source(), "-c:v", "libvpx-vp9", "-b:v", "150k", "-auto-alt-ref", "1"),
    *("-lag-in-frames", "16", "-g", "40"),
)
_HIDDEN_AV1 = by_ffmpeg(
    *(*source(n_frames=24), "-c:v", "libaom-av1", "-b:v", "150k", "-lag-in-frames", "19"),
    *("-cpu-used", "6"),
)
SPLIT = ("-bsf:v", "av1_frame_split")


def _joined(ending: str, *encode: str) -> Callable[[Any, Path], None]:
    """A maker that writes 8 frames of 96×64 and then 16 of 192×128, which are brighter."""

    def make(ffmpeg: Any, path: Path) -> None:
        parts = []
        for size, more, n_frames in (("96x64", 0, 8), ("192x128", 80, 16)):
            parts.append(path.with_name(f"{path.stem}_{size}.{ending}"))
            ffmpeg.run("-v", "error", *source(size, more, n_frames), *encode, parts[-1])
        if ending in ("ts", "h264", "hevc", "m2v", "mjpeg", "obu"):
            whole = b"".join(part.read_bytes() for part in parts)
            raw = path.with_name(f"{path.stem}_both.{ending}")
            raw.write_bytes(whole)
            ffmpeg.run("-v", "error", "-i", raw, "-c", "copy", "-fflags", "+genpts", path)
            parts.append(raw)
        else:
            names = path.with_name("parts.txt")
            names.write_text("".join(f"file {part.name}\n" for part in parts))
            ffmpeg.run("-v", "error", "-f", "concat", "-i", names, "-c", "copy", path)
            parts.append(names)
        for part in parts:
            part.unlink()

    return make


def _sizes(
    name: str, what: str, ending: str, *encode: str, means: Sequence[float] = (), start: float = 0.0
) -> Case:
    return Case(
        name=name,
        what=f"{what}, concatenated from files of two sizes",
        make=_joined(ending, *encode),
        outcome="All frames, scaled to the most frequent size; the summary gives the number.",
        n_frames=24,
        size=(128, 192),
        warning="^8 of 24 frames are 96×64 and are scaled to 192×128$",
        times=[start + 0.04 * number for number in range(24)],
        means=means or _SIZE_MEANS,
        tolerance=0.6,
    )


# Of `source(more=80)`, as FFV1 keeps them.
_BRIGHTER_MEANS = [
    *(113.6, 117.3, 121.3, 124.9, 128.9, 132.9, 136.8, 140.7, 144.7, 148.6, 152.8, 156.7, 160.7),
    *(164.6, 168.6),
]
_SIZE_MEANS = [
    *(34.42, 37.44, 41.15, 45.03, 48.88, 52.84, 56.7, 60.73, 125.3, 129.2, 133.1, 137.1, 141.1),
    *(145.1, 149.1, 153, 157.2, 161.1, 165.3, 169.4, 173.4, 177.5, 181.5, 185.6),
]

# FFmpeg's encoder stretches luma to full range for MJPEG.
_SIZE_JPEG_MEANS = [
    *(21.53, 25.09, 29.43, 33.77, 38.26, 42.99, 47.60, 52.08, 127.15, 131.68, 136.34, 140.9),
    *(145.48, 150.15, 154.82, 159.47, 164.3, 169.08, 173.79, 178.58, 183.34, 187.95, 192.75),
    *(197.49,),
]
# PNG is RGB; these are the grays to which FFmpeg's command converts it.
_SIZE_PNG_MEANS = [
    *(40.65, 42.28, 44.72, 46.61, 49.22, 51.85, 54.98, 57.96, 124.86, 128.47, 132.29, 135.54),
    *(139.11, 142.79, 146.22, 149.8, 153.08, 156.61, 160.11, 163.46, 167.13, 170.01, 172.77),
    *(175.88,),
]
# Of the output of FFmpeg's command. A frame before one that is not coded counts twice.
_NOT_CODED_MEANS = [
    *(34.41, 37.44, 37.44, 42.56, 46.69, 46.69, 51.93, 56.17, 56.17, 61.4, 65.54, 65.54, 80.69),
    *(84.48, 88.49, 88.49, 93.49, 97.69, 97.69, 103.06, 107.23, 107.23, 112.05, 116.49, 129.07),
    *(129.07, 134.04, 138.05, 138.05, 143.13, 147.3, 147.3, 152.81, 156.7, 156.7, 161.85, 177.6),
    *(181.37, 181.37, 186.38),
]
# With B-frames too. FFmpeg outputs the frame before one that is not coded after the B-frame
# that follows it, against the order of the recipe: nan.
_NOT_CODED_B_MEANS = [
    *(34.41, 37.6, nan, nan, 41.2, 47.06, 52.64, 56.91, nan, nan),
    *(61.19, 70.98, 80.69, 84.57, 88.5, 92.71, nan, nan, 96.64, 102.4),
    *(108.2, 112.33, 116.39, 122.71, nan, nan, 129.07, 134.35, 139.25, 143.51),
    *(nan, nan, 147.75, 153.38, 159.0, 168.43, 177.6, 181.65, 185.39, 185.39),
]


def without_code(data: bytes) -> bytes:
    """The header of an MPEG-4 frame at 25 frames per second that is "not coded"."""
    at = data.find(_VOP) + 4
    bits = "".join(f"{byte:08b}" for byte in data[at : at + 8])
    end = 2 + bits[2:].index("0") + 1 + 1 + 5 + 1  # type, seconds, marker, time, marker
    kept = bits[:end] + "0"
    kept += "0" + "1" * ((-len(kept) - 1) % 8)
    return _VOP + int(kept, 2).to_bytes(len(kept) // 8, "big")


def _vop_type(data: bytes) -> int:
    return data[data.find(_VOP) + 4] >> 6


def _mpeg4(*options: str) -> Callable[[Any, Path], None]:
    return by_ffmpeg(*source(), "-c:v", "mpeg4", "-g", "12", *options)


def _not_coded(ending: str, *options: str) -> Callable[[Any, Path], None]:
    """A maker that replaces every third P-frame by one that is not coded."""

    def make(ffmpeg: Any, path: Path) -> None:
        first = path.with_name(f"first_{path.stem}.{ending}")
        _mpeg4(*options)(ffmpeg, first)
        packets, n = packets_of(first), 0
        for number, packet in enumerate(packets):
            if _vop_type(packet.data) == 1:
                n += 1
                if n % 3 == 2:
                    packets[number] = packet._replace(data=without_code(packet.data))
        write(path, first, packets)
        first.unlink()

    return make


def _packed(ffmpeg: Any, path: Path) -> None:
    """DivX: a B-frame in the packet of the P-frame before it, then one not coded."""
    first = path.with_name(f"first_{path.name}")
    _mpeg4("-bf", "1")(ffmpeg, first)
    packets: list[Packet] = []
    for number, (data, is_key, _, _) in enumerate(packets_of(first)):
        if is_key:
            data = data.replace(_VOP, b"\0\0\1\xb2DivX503b1393p" + _VOP)
        if _vop_type(data) == _B_VOP:
            before = packets[-1]
            packets[-1] = before._replace(data=before.data + data)
            data = without_code(before.data)
        packets.append(Packet(data, is_key, number))
    write(path, first, packets)
    first.unlink()


def _joined_ts(*encode: str) -> Callable[[Any, Path], None]:
    """A maker of two transport streams in one file, as `cat` joins them: the clock starts again."""

    def make(ffmpeg: Any, path: Path) -> None:
        parts = b""
        for more in (0, 80):
            part = path.with_name(f"part{more}_{path.name}")
            ffmpeg.run("-v", "error", *source(more=more, n_frames=15), *encode, "-g", "10", part)
            parts += part.read_bytes()
            part.unlink()
        path.write_bytes(parts)

    return make


def _joined_case(name: str, codec: str, start: float, *encode: str) -> Case:
    return Case(
        name,
        f"{codec} in MPEG-TS, two files concatenated with `cat`",
        _joined_ts(*encode),
        "The times continue. At the boundary the last frames of the first file are `suspect`: the "
        "container counts a packet there as incomplete.",
        n_frames=30,
        times=[start + 0.04 * number for number in range(30)],
        means=[*VP8_MEANS[:15], *_BRIGHTER_MEANS],
        status={"ok": 28, "suspect": 2},
        damage="1 packet",
        tolerance=0.6,
    )


def _without_head(ffmpeg: Any, path: Path) -> None:
    """A transport stream without its only keyframe, which states the size."""
    whole = path.with_name(f"whole_{path.name}")
    by_ffmpeg(*source(), "-c:v", "libx264", "-g", "100", "-bf", "0")(ffmpeg, whole)
    write(path, whole, packets_of(whole)[1:])
    whole.unlink()


_HEVC = ("-c:v", "libx265")
FIELDS = "Two fields, each in a packet of its own, are one frame."
HIDDEN = "As many rows as frames are shown."
REPEATED = "The frame before, once more, `ok`."
_FIELD_CASE: dict[str, Any] = {
    "outcome": FIELDS,
    "n_frames": 8,
    "times": FIELD_TIMES,
    "means": FIELD_MEANS,
}

CASES: list[Case] = [
    Case("fields.mp4", "H.264 coded as fields", copied("fields.mp4"), rate=25, **_FIELD_CASE),
    *(
        Case(
            f"fields.{ending}",
            "H.264 coded as fields",
            remuxed(copied("fields.mp4"), "fields.mp4", "-muxdelay", "0", "-muxpreload", "0"),
            warning="states no frames per second" if ending == "h264" else "",
            **_FIELD_CASE,
        )
        for ending in ("ts", "mkv", "mov", "h264")
    ),
    Case(
        "fields_in_pairs.mp4",
        "H.264 coded as fields, both in one packet",
        _fields(_in_pairs),
        **_FIELD_CASE,
    ),
    *(
        Case(
            f"field_lost.{ending}",
            "H.264 coded as fields, one second field lost",
            _fields(lambda fields: fields[:5] + fields[6:]),
            **_FIELD_CASE
            | {
                "outcome": "The frame without its second field is `missing`: FFmpeg outputs none.",
                "means": [*FIELD_MEANS[:2], None, *FIELD_MEANS[3:]],
                "status": {"ok": 7, "missing": 1},
            },
        )
        for ending in ("mp4", "ts")
    ),
    Case(
        "field_damaged.mp4",
        "H.264 coded as fields, one second field damaged",
        _fields(
            lambda fields: [
                each._replace(data=each.data[:300] + bytes(99) + each.data[399:])
                if each.pts == 3
                else each
                for each in fields
            ]
        ),
        **_FIELD_CASE
        | {
            "outcome": "Its frame is `corrupt`, later frames of its GOP are `suspect`.",
            # 75 is what FFmpeg's command shows of the damaged frame.
            "means": [105, 75, *FIELD_MEANS[2:]],
            "status": {"ok": 5, "corrupt": 1, "suspect": 2},
        },
    ),
    *(
        Case(
            f"hidden_vp8.{ending}",
            "VP8 with hidden reference frames",
            _hidden_vp8,
            HIDDEN,
            n_frames=N_FRAMES,
            times=_VP8_TIMES if ending in ("ivf", "avi") else TIMES,
            means=VP8_MEANS,
        )
        for ending in ("webm", "ivf", "mkv", "avi")
    ),
    *(
        Case(
            f"hidden_vp9.{ending}",
            "VP9 with hidden reference frames",
            remuxed(_HIDDEN_VP9, "vp9.webm", "-bsf:v", "vp9_superframe_split"),
            HIDDEN,
            n_frames=N_FRAMES,
            times=TIMES,
            means=_VP9_MEANS,
        )
        for ending in ("webm", "nut")
    ),
    *(
        Case(
            f"hidden_av1.{ending}",
            "AV1 split into its frames, hidden ones too",
            remuxed(_HIDDEN_AV1, "av1.mkv", *SPLIT),
            HIDDEN,
            n_frames=24,
            times=_AV1_IVF_TIMES if ending == "ivf" else TIMES[:24],
            means=_AV1_MEANS,
        )
        for ending in ("mkv", "mp4", "ivf")
    ),
    _sizes("sizes_h264.mkv", "H.264", "h264", "-c:v", "libx264", "-bf", "0"),
    _sizes("sizes_h264.ts", "H.264", "h264", "-c:v", "libx264", "-bf", "0", start=1.4),
    _sizes("sizes_h264.mp4", "H.264", "mp4", "-c:v", "libx264", "-bf", "0"),
    _sizes("sizes_hevc.hevc", "HEVC", "hevc", "-c:v", "libx265", "-x265-params", "log-level=error"),
    _sizes("sizes_mpeg2.m2v", "MPEG-2", "m2v", "-c:v", "mpeg2video", "-q:v", "2"),
    _sizes("sizes_mpeg4.avi", "MPEG-4", "avi", "-c:v", "mpeg4", "-q:v", "2"),
    _sizes("sizes_mjpeg.avi", "MJPEG", "avi", "-c:v", "mjpeg", "-q:v", "2", means=_SIZE_JPEG_MEANS),
    _sizes("sizes_png.mov", "PNG", "mov", "-c:v", "png", means=_SIZE_PNG_MEANS),
    _sizes("sizes_prores.mov", "ProRes", "mov", "-c:v", "prores"),
    _sizes("sizes_vp8.webm", "VP8", "webm", "-c:v", "libvpx", "-b:v", "1M"),
    _sizes("sizes_vp9.webm", "VP9", "webm", "-c:v", "libvpx-vp9", "-deadline", "realtime"),
    _sizes("sizes_av1.mkv", "AV1", "mkv", "-c:v", "libaom-av1", "-usage", "1", "-cpu-used", "8"),
    *(
        Case(
            f"not_coded.{ending}",
            'MPEG-4 with frames that are "not coded"',
            _not_coded(ending, "-bf", "0"),
            REPEATED,
            n_frames=N_FRAMES,
            times=TIMES,
            means=_NOT_CODED_MEANS,
        )
        for ending in ("mp4", "mkv", "avi")
    ),
    Case(
        "not_coded_b.avi",
        'MPEG-4 with B-frames and frames that are "not coded"',
        _not_coded("avi", "-bf", "1"),
        "FFmpeg outputs a B-frame after such a frame too early. It, the frame whose row it takes, "
        "and the repeated one are `suspect`. The samples of the first two are not compared.",
        n_frames=N_FRAMES,
        status={"ok": 25, "suspect": 15},
        times=TIMES,
        means=_NOT_CODED_B_MEANS,
    ),
    *(
        Case(
            f"packed.{ending}",
            "MPEG-4 of DivX, two frames packed into one packet"
            + ("" if ending == "avi" else ", pts equal to dts"),
            _packed,
            "Each frame once.",
            n_frames=N_FRAMES,
            times=TIMES,
            means=VP8_MEANS,
            tolerance=0.6,
        )
        for ending in ("avi", "mkv", "mp4")
    ),
    _joined_case("joined_h264.ts", "H.264", 1.48, "-c:v", "libx264", "-crf", "12"),
    _joined_case("joined_h264_ip.ts", "H.264 without B-frames", 1.4, "-c:v", "libx264", "-bf", "0"),
    _joined_case("joined_mpeg2.ts", "MPEG-2", 1.44, "-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"),
    _joined_case("joined_hevc.ts", "HEVC", 1.48, *_HEVC, "-x265-params", "log-level=error"),
    *(
        Case(
            f"fields_hevc.{ending}",
            "HEVC coded as fields",
            by_ffmpeg(
                *source(n_frames=12), *_HEVC, "-x265-params", "log-level=error:interlace=tff"
            ),
            "Each field is a row of its own, of half the height, as in FFmpeg.",
            n_frames=12,
            times=[(1.48 if ending == "ts" else 0) + time for time in TIMES[:12]],
            means=VP8_MEANS[:12],
            size=(64, 96),
            tolerance=0.6,
        )
        for ending in ("mp4", "mkv", "ts", "hevc")
    ),
    *(
        Case(
            f"resized_av1_{mode}.mp4",
            f"AV1 whose encoder codes {which} smaller than they are displayed",
            by_ffmpeg(
                *source("192x128", n_frames=12),
                *("-c:v", "libsvtav1", "-preset", "10"),
                *("-svtav1-params", f"resize-mode={mode}:resize-denom=12:resize-kf-denom=12"),
            ),
            "All frames, scaled to the size that the stream states.",
            n_frames=12,
            times=TIMES[:12],
            size=(128, 192),
            means=[45.4, 49.2, 53.2, 57.0, 61.0, 65.0, 69.0, 73.0, 77.1, 81.2, 85.3, 89.4],
            tolerance=1.0,
        )
        for mode, which in ((1, "all frames"), (2, "some frames"))
    ),
    Case(
        "no_size.ts",
        "H.264 in MPEG-TS, cut off after its only keyframe",
        _without_head,
        "All rows are `missing`. There is no overlay, and the summary gives the reason.",
        n_frames=N_FRAMES - 1,
        times=TIMES[1:],
        means=[None] * (N_FRAMES - 1),
        size=(0, 0),
        status={"missing": N_FRAMES - 1},
    ),
]
