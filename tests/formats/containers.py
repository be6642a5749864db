"""Containers, codecs without a decoder, and files that refer to others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from formats import Case

N_FRAMES = 10
TIMES = [number / 25 for number in range(N_FRAMES)]
MEANS = [40.0 + 16 * number for number in range(N_FRAMES)]
GRAYS = "color=size=64x64:rate=25,format=yuv420p,geq=lum='40+16*N':cb=128:cr=128"
VIDEO = ["-f", "lavfi", "-i", GRAYS]
AUDIO = ["-f", "lavfi", "-i", "sine=duration=2"]
COVER = ["-f", "lavfi", "-i", "color=black:size=320x240", "-frames:v", "1"]
H264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-frames:v", str(N_FRAMES)]


def with_cover(form: str, *arguments: str, first: bool = False) -> Callable[[Any, Path], None]:
    """A maker of a file with a cover picture, in a container that the ending may not name.

    The cover is larger; `first` puts it before the other stream.
    """

    def make(ffmpeg: Any, path: Path) -> None:
        cover, rest = path.with_suffix(".jpg"), path.with_suffix(".nut")
        ffmpeg.run("-v", "error", *COVER, cover)
        ffmpeg.run("-v", "error", *arguments, rest)
        number = 0 if first or "-c:v" not in arguments else 1
        ffmpeg.run(
            *("-v", "error", "-i", rest, "-i", cover, "-c", "copy"),
            *("-map", int(first), "-map", int(not first)),
            *(f"-disposition:v:{1 - number}", "0", f"-disposition:v:{number}"),
            *("attached_pic", "-f", form, path),
        )
        cover.unlink()
        rest.unlink()

    return make


def replaced(*arguments: str, old: bytes, new: bytes) -> Callable[[Any, Path], None]:
    """A maker of a file in which bytes are replaced by others."""

    def make(ffmpeg: Any, path: Path) -> None:
        ffmpeg.run("-v", "error", *arguments, path)
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))

    return make


def attached(*arguments: str) -> Callable[[Any, Path], None]:
    """A maker of a Matroska file with an attached image."""

    def make(ffmpeg: Any, path: Path) -> None:
        pixels = path.with_suffix(".jpg")
        ffmpeg.run("-v", "error", *COVER, pixels)
        kind = ("-metadata:s:t", "mimetype=image/jpeg")
        ffmpeg.run("-v", "error", *arguments, "-attach", pixels, *kind, path)
        pixels.unlink()

    return make


def unreadable(
    name: str, what: str, make: Callable[[Any, Path], None], reason: str, convert: str
) -> Case:
    """A case of a file that has no rows."""
    escaped_reason = reason.replace("\\", "")
    return Case(
        name, what, make, f"unreadable: {escaped_reason}", 0, reason=reason, convert=convert
    )


SOUND = "the file has no video stream"
NOTHING = "none: it contains only audio"
AAC, MP3 = ([*AUDIO, "-c:a", name] for name in ("aac", "libmp3lame"))
COVERS = [
    unreadable("song.mp4", "audio with a cover image, named like a video",
               with_cover("mp4", *AAC), SOUND, NOTHING),
    unreadable("song_mp3.mp4", "MP3 with a cover image, named like a video",
               with_cover("mp3", *MP3), SOUND, NOTHING),
    unreadable("song.mkv", "audio with an attached image, in Matroska", attached(*AUDIO), SOUND,
               NOTHING),
    Case("cover.mp4", "H.264 in MP4 with a larger cover image",
         with_cover("mp4", *VIDEO, *H264), "the cover is not a row", N_FRAMES, times=TIMES,
         means=MEANS, size=(64, 64), rate=25, tolerance=3),
    Case("cover_first.mp4", "H.264 in MP4 after a larger cover image",
         with_cover("mp4", *VIDEO, *H264, first=True), "the cover is not a row", N_FRAMES,
         times=TIMES, means=MEANS, size=(64, 64), rate=25, tolerance=3),
    Case("cover.mkv", "H.264 in Matroska with a larger attached image",
         attached(*VIDEO, *H264), "the attached image is not a row", N_FRAMES, times=TIMES,
         means=MEANS, size=(64, 64), rate=25, tolerance=3),
]  # fmt: skip

UNKNOWN = "FFmpeg has no decoder for its video stream"
EXPORT = "open it in the program that recorded it, and export it as H.264 in MP4"
CODECS = [
    unreadable("unknown_tag.mp4", "MP4 with a codec that FFmpeg does not know",
               replaced(*VIDEO, *H264, old=b"avc1", new=b"zzz1"),
               rf"{UNKNOWN} \(codec tag 'zzz1'\)", EXPORT),
    unreadable("unknown_id.mkv", "Matroska with a codec that FFmpeg does not know",
               replaced(*VIDEO, *H264, old=b"V_MPEG4/ISO/AVC", new=b"V_XXXX4/ISO/AVC"),
               rf"{UNKNOWN} \(codec V_XXXX4/ISO/AVC\)", EXPORT),
    unreadable("unknown_tag.avi", "AVI with a codec that FFmpeg does not know",
               replaced(*VIDEO, "-frames:v", "4", "-c:v", "rawvideo", "-pix_fmt", "yuyv422",
                        old=b"YUY2", new=b"Y16 "),
               rf"{UNKNOWN} \(codec tag 'Y16 '\)", EXPORT),
]  # fmt: skip

CASES: list[Case] = [*COVERS, *CODECS]
