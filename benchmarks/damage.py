"""The share of damage that is detected, per codec: seeded damage, and the status of altered frames.

python -m benchmarks.damage [--copies N] [--frames N] [codec ...]

Every copy of a small clip gets one kind of damage, after the header of the container. A frame is
altered when its samples differ from those of the undamaged clip. The table is the one of
docs/outputs.md, "How damage is detected".
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from pvio.collection.sources import Source
from pvio.errors import UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.index.cached import load_index

KINDS = ("byte", "flips", "zeros", "tail", "cut")
GOP = ["-threads", "1", "-g", "12"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", *GOP]
HEVC = ["-c:v", "libx265", *GOP, "-tag:v", "hvc1", "-x265-params"]
AV1 = ["-c:v", "libsvtav1", "-preset", "12", "-g", "12"]
H264 = ["-c:v", "libx264", *GOP, "-bf", "2"]

# Name: ending of the file, arguments of FFmpeg. A name with `%` is a folder of images.
CODECS: dict[str, tuple[str, list[str]]] = {
    "FFV1": (".mkv", ["-c:v", "ffv1", "-g", "1"]),
    "VP9": (".mp4", VP9),
    "H.264": (".mp4", H264),
    "H.264, CAVLC": (".mp4", [*H264, "-x264-params", "cabac=0"]),
    "HEVC with picture hashes": (".mp4", [*HEVC, "log-level=error:pools=1:hash=1"]),
    "HEVC": (".mp4", [*HEVC, "log-level=error:pools=1"]),
    "AV1": (".mp4", AV1),
    "VP8": (".webm", ["-c:v", "libvpx", "-deadline", "realtime", *GOP]),
    "MPEG-4": (".mp4", ["-c:v", "mpeg4", "-q:v", "4", *GOP]),
    "MPEG-2": (".mov", ["-c:v", "mpeg2video", "-q:v", "4", *GOP]),
    "MJPEG": (".mov", ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"]),
    "MJPEG in AVI": (".avi", ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"]),
    "ProRes": (".mov", ["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"]),
    "JPEG images": ("/%02d.jpg", ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"]),
    "PNG images": ("/%02d.png", ["-pix_fmt", "rgb24"]),
    "TIFF images, uncompressed": ("/%02d.tif", ["-compression_algo", "raw", "-pix_fmt", "gray"]),
    "TIFF images, LZW": ("/%02d.tif", ["-compression_algo", "lzw", "-pix_fmt", "rgb24"]),
    "TIFF images, deflate": ("/%02d.tif", ["-compression_algo", "deflate", "-pix_fmt", "rgb24"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.damage", description=__doc__)
    parser.add_argument("codecs", nargs="*", help="parts of names; all when none is given")
    parser.add_argument("--copies", type=int, default=60, help="damaged copies of each clip")
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    arguments = parser.parse_args()
    print(
        "| clip | altered | `missing` | `corrupt` | `suspect` | passed as `ok` | caught |", end=""
    )
    print(" undamaged, not `ok` | by kind of damage, caught |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in CODECS:
        if not arguments.codecs or any(part in name for part in arguments.codecs):
            with tempfile.TemporaryDirectory(prefix="pvio-damage-") as folder:
                print(row(name, Path(folder), arguments.copies, arguments.frames), flush=True)


def row(name: str, folder: Path, n_copies: int, n_frames: int) -> str:
    """A line of the table."""
    suffix, options = CODECS[name]
    clip, broken = folder / f"whole{suffix}", folder / f"broken{suffix}"
    is_folder = "%" in suffix
    if is_folder:
        clip.parent.mkdir()
    make(clip, options, n_frames, faststart=suffix in (".mp4", ".mov"))
    target = clip.parent if is_folder else clip
    copy = broken.parent if is_folder else broken
    whole = pictures(target)
    assert [status for status, _ in whole.values()] == ["ok"] * n_frames, name
    counts: Counter[str] = Counter()
    for seed in range(n_copies):
        kind = KINDS[seed % len(KINDS)]
        if is_folder:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(target, copy)
            for number, file in enumerate(sorted(copy.iterdir())):
                data = file.read_bytes()
                # The first image says how large all are.
                if number:
                    file.write_bytes(damaged(data, n_frames * seed + number, kind, 32))
        else:
            data = clip.read_bytes()
            start = data.find(b"mdat") + 4 if b"mdat" in data else len(data) // 12
            broken.write_bytes(damaged(data, seed, kind, start))
        try:
            seen = pictures(copy)
        except UnreadableVideo:  # which says so
            seen = dict.fromkeys(whole, ("missing", None))
        for time, (status, digest) in seen.items():
            altered = digest != whole.get(time, ("", b""))[1]
            counts[f"altered {status}" if altered else f"sound {status}"] += 1
            counts[f"{kind} {'altered' if altered else 'sound'} {status}"] += 1
    return line(name, counts)


def line(name: str, counts: Counter[str]) -> str:
    """The cells of the table."""
    states = ("missing", "corrupt", "suspect", "ok")
    altered = [counts[f"altered {status}"] for status in states]
    sound = [counts[f"sound {status}"] for status in states]
    kinds = []
    for kind in KINDS:
        of_kind = [counts[f"{kind} altered {status}"] for status in states]
        if sum(of_kind):
            kinds.append(f"{kind} {1 - of_kind[-1] / sum(of_kind):.0%}")
    cells = [name, sum(altered), *altered, f"{1 - altered[-1] / max(1, sum(altered)):.1%}"]
    cells += [f"{sum(sound[:-1])} of {sum(sound)}", ", ".join(kinds)]
    return "| " + " | ".join(map(str, cells)) + " |"


def make(path: Path, options: list[str], n_frames: int, faststart: bool) -> None:
    """A clip, or a folder of images."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    command += ["-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-frames:v", str(n_frames)]
    command += ["-vf", "noise=alls=8:allf=t:all_seed=1"]
    command += [] if "-pix_fmt" in options else ["-pix_fmt", "yuv420p"]
    command += [*options, *(["-movflags", "+faststart"] if faststart else []), str(path)]
    subprocess.run(command, check=True, capture_output=True)


def damaged(data: bytes, seed: int, kind: str, start: int) -> bytes:
    """The file with one kind of damage after `start`."""
    chance, result = random.Random(seed), bytearray(data)
    if kind == "byte":
        result[chance.randrange(start, len(data))] ^= chance.randrange(1, 256)
    elif kind == "flips":
        for _ in range(16):
            result[chance.randrange(start, len(data))] ^= 1 << chance.randrange(8)
    elif kind == "zeros":
        first = chance.randrange(start, len(data))
        last = min(len(data), first + chance.randrange(100, 3000))
        result[first:last] = bytes(last - first)
    elif kind == "tail":
        for _ in range(16):
            place = chance.randrange(max(start, len(data) * 9 // 10), len(data))
            result[place] ^= 1 << chance.randrange(8)
    else:
        del result[chance.randrange(start, len(data)) :]
    return bytes(result)


def pictures(path: Path) -> dict[int, tuple[str, bytes | None]]:
    """Status and digest of every frame, by its time stamp."""
    reader = open_reader(load_index(Source(str(path), "", path.is_dir())))
    rows: dict[int, tuple[str, bytes | None]] = {}
    for decoded in reader.frames(0, reader.index.n_frames):
        digest = None
        if decoded.pixels is not None:
            picture = decoded.pixels
            array = picture if isinstance(picture, np.ndarray) else picture.to_ndarray()
            digest = hashlib.md5(np.ascontiguousarray(array).tobytes()).digest()
        rows[int(reader.index.pts[decoded.number])] = (decoded.status, digest)
    reader.close()
    return rows


if __name__ == "__main__":
    main()
