"""Seeded damage: rows stay, altered frames are reported, intact ones are trusted.

The counts are printed (`pytest -s`). They are those of docs/outputs.md, "How damage is detected".
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import pvio.media.decoders.pyav
from pvio.media.decode.reader import open_reader
from pvio.media.decoders.frame import Status
from pvio.media.index.cached import load_index

N_FRAMES = 100
KINDS = ("flip", "zero", "shuffle", "truncate")
GOP = ["-threads", "1", "-g", "25"]
HEVC = ["-c:v", "libx265", *GOP, "-tag:v", "hvc1", "-x265-params"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", *GOP]

# Name, ending, arguments of FFmpeg, number of damaged copies, and the least share of altered
# frames that must not be `ok`; None where FFmpeg's decoder lets most damage pass.
CODECS: dict[str, tuple[str, list[str], int, float | None]] = {
    "H.264": (".mp4", ["-c:v", "libx264", *GOP, "-bf", "2"], 68, 0.9),
    "VP9": (".mp4", VP9, 68, 0.9),
    "AV1": (".mp4", ["-c:v", "libsvtav1", "-preset", "12", "-g", "25"], 68, 0.95),
    "VP9 in WebM": (".webm", VP9, 16, 0.9),
    "HEVC with picture hashes": (".mp4", [*HEVC, "log-level=error:pools=1:hash=1"], 16, 0.9),
    "FFV1": (".mkv", ["-c:v", "ffv1", "-g", "1"], 16, 0.9),
    "H.264 in MPEG-TS": (".ts", ["-c:v", "libx264", *GOP, "-bf", "2"], 16, 0.9),
    "H.264 in AVI": (".avi", ["-c:v", "libx264", *GOP, "-bf", "0"], 16, 0.9),
    "H.264 with B-frames in AVI": (".avi", ["-c:v", "libx264", *GOP, "-bf", "2"], 16, 0.9),
    "MPEG-4 with B-frames in AVI": (
        *(".avi", ["-c:v", "mpeg4", "-q:v", "4", *GOP, "-bf", "2"]),
        *(16, None),
    ),
    "MJPEG": (".mov", ["-c:v", "mjpeg", "-q:v", "4"], 16, None),
    "MPEG-4": (".mp4", ["-c:v", "mpeg4", "-q:v", "4", *GOP], 16, None),
    "MPEG-2 in a program stream": (".mpg", ["-c:v", "mpeg2video", "-q:v", "4", *GOP], 16, None),
    "HEVC": (".mp4", [*HEVC, "log-level=error:pools=1"], 16, None),
}
# Containers that say how many frames there are, before them.
COUNTED = (".mp4", ".mov")


def frames_of(path: Path) -> dict[int, tuple[Status, bytes | None]]:
    """Status and digest of every frame, by its time stamp."""
    reader = open_reader(load_index(path))
    rows: dict[int, tuple[Status, bytes | None]] = {}
    for decoded in reader.frames(0, reader.index.n_frames):
        image: Any = decoded.pixels
        digest = hashlib.md5(image.to_ndarray()).digest() if image is not None else None
        rows[int(reader.index.pts[decoded.number])] = (decoded.status, digest)
    reader.close()
    return rows


def damage(data: bytes, seed: int, start: int) -> bytes:
    """The file with one kind of damage after `start`."""
    chance, kind, result = random.Random(seed), KINDS[seed % len(KINDS)], bytearray(data)
    if kind == "flip":
        for _ in range(5):
            result[chance.randrange(start, len(data))] ^= 1 << chance.randrange(8)
    elif kind == "zero":
        first = chance.randrange(start, len(data))
        last = min(len(data), first + chance.randrange(100, 3000))
        result[first:last] = bytes(last - first)
    elif kind == "shuffle":
        first = chance.randrange(start, len(data) - 4096)
        blocks = [result[first + i : first + i + 512] for i in range(0, 4096, 512)]
        chance.shuffle(blocks)
        result[first : first + 4096] = b"".join(blocks)
    else:
        del result[chance.randrange(start, len(data)) :]
    return bytes(result)


@pytest.fixture(scope="module")
def counts(ffmpeg: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Function of a codec's name and a number: what became of the frames of so many copies."""

    @functools.cache
    def of(codec: str, n_copies: int) -> Counter[str]:
        suffix, arguments, _, _ = CODECS[codec]
        folder = tmp_path_factory.mktemp("damage")
        clip, broken = folder / f"whole{suffix}", folder / f"broken{suffix}"
        if suffix in COUNTED:
            arguments = [*arguments, "-movflags", "+faststart"]
        ffmpeg.run(
            *("-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x240:r=25"),
            *("-vf", "noise=alls=8:allf=t", "-frames:v", N_FRAMES),
            *("-pix_fmt", "yuvj420p" if codec == "MJPEG" else "yuv420p", *arguments, clip),
        )
        whole, data = frames_of(clip), clip.read_bytes()
        assert len(whole) == N_FRAMES
        # Of containers without a header of their own, the first frames are left whole.
        start = data.index(b"mdat") + 4 if suffix in COUNTED else len(data) // 20
        result: Counter[str] = Counter(
            {"undamaged, not ok": sum(status != "ok" for status, _ in whole.values())}
        )
        for seed in range(n_copies):
            broken.write_bytes(damage(data, seed, start))
            rows = frames_of(broken)
            result["rows"] += len(rows)
            by_decoder = rows
            if n_copies > FEW_COPIES:  # only the printed counts distinguish them
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(pvio.media.decoders.pyav, "is_damaged", lambda *_: False)
                    by_decoder = frames_of(broken)
            for time, (status, seen) in rows.items():
                altered = seen != whole.get(time, ("", b"unknown"))[1]
                means: str = status
                if status == "suspect":
                    means += " by bytes" if by_decoder[time][0] == "ok" else " by messages"
                result[f"{'altered' if altered else 'sound'} {means}"] += 1
        result["altered"] = sum(n for name, n in result.items() if name.startswith("altered "))
        result["sound"] = result["rows"] - result["altered"]
        caught = 1 - result["altered ok"] / result["altered"]
        print(f"\n{codec}, {n_copies} copies: {caught:.1%} of altered pictures are not ok", end=" ")
        print({name: result[name] for name in sorted(result)})
        return result

    return of


# Of each codec in the usual run: two of each kind of damage.
FEW_COPIES = 8


def cases(codecs: Iterable[str]) -> list[Any]:
    """Parameters: a codec and a number of copies.

    All tests of a case run in the same process, which counts once.
    """
    found = []
    for codec in codecs:
        for n_copies in sorted({FEW_COPIES, CODECS[codec][2]}):
            marks = [pytest.mark.xdist_group(f"{codec} {n_copies}")]
            marks += [pytest.mark.thorough] if n_copies > FEW_COPIES else []
            found.append(pytest.param(codec, n_copies, marks=marks))
    return found


@pytest.mark.parametrize(("codec", "n_copies"), cases(CODECS))
def test_an_undamaged_clip_is_ok(counts: Any, codec: str, n_copies: int):
    assert counts(codec, n_copies)["undamaged, not ok"] == 0


@pytest.mark.parametrize(
    ("codec", "n_copies"), cases(name for name in CODECS if CODECS[name][0] in COUNTED)
)
def test_no_row_is_lost(counts: Any, codec: str, n_copies: int):
    assert counts(codec, n_copies)["rows"] == N_FRAMES * n_copies


@pytest.mark.parametrize(("codec", "n_copies"), cases(name for name in CODECS if CODECS[name][3]))
def test_most_altered_frames_are_not_ok(counts: Any, codec: str, n_copies: int):
    count, least = counts(codec, n_copies), CODECS[codec][3]
    assert count["altered"] >= 1.25 * n_copies
    assert count["altered ok"] <= (1 - least) * count["altered"]


@pytest.mark.parametrize(("codec", "n_copies"), cases(CODECS))
def test_few_intact_frames_are_distrusted(counts: Any, codec: str, n_copies: int):
    count = counts(codec, n_copies)
    distrusted = count["sound"] - count["sound ok"]
    # Less than the damage spoils: a logged error affects the rest of a GOP.
    assert distrusted <= 0.1 * count["sound"]


def test_after_a_lost_chunk_of_an_avi_no_frame_comes_too_early(tmp_path: Path, ffmpeg: Any):
    clip = tmp_path / "whole.avi"
    source = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=25", "-frames:v", 40]
    ffmpeg.run("-v", "error", *source, "-c:v", "mpeg4", "-g", 10, clip)
    whole = frames_of(clip)
    data = bytearray(clip.read_bytes())
    start = data.index(b"movi")
    for _ in range(16):  # the header of the chunk of frame 15
        start = data.index(b"00dc", start + 4)
    data[start : start + 40] = bytes(40)
    clip.write_bytes(data)
    rows = frames_of(clip)
    assert len(rows) == 40
    assert rows[15] == ("missing", None)
    assert [rows[frame_number][0] for frame_number in range(16, 20)] == [
        "suspect"
    ] * 4  # they refer to it
    for frame_number in [*range(15), *range(20, 40)]:
        assert rows[frame_number] == whole[frame_number]
