"""Seeded damage to H.264: rows stay, altered pictures are told, sound ones are trusted."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections import Counter
from pathlib import Path

import imageio_ffmpeg
import pytest

from pvio.media.index import load_index
from pvio.media.read import open_reader

N_FRAMES, N_DAMAGED = 100, 60
KINDS = ("flip", "zero", "shuffle", "truncate")


def pictures(path: Path) -> list[tuple[str, bytes | None]]:
    """Status and digest of every frame."""
    reader = open_reader(load_index(path))
    rows = []
    for decoded in reader.frames(0, reader.index.n_frames):
        planes = b"".join(bytes(p) for p in decoded.picture.planes) if decoded.picture else None
        rows.append((decoded.status, planes and hashlib.md5(planes).digest()))
    reader.close()
    return rows


def damage(data: bytes, seed: int) -> bytes:
    """The file with one kind of damage to its payload; its index is in front of that."""
    chance, kind, result = random.Random(seed), KINDS[seed % len(KINDS)], bytearray(data)
    low = data.index(b"mdat") + 4
    if kind == "flip":
        for _ in range(5):
            result[chance.randrange(low, len(data))] ^= 1 << chance.randrange(8)
    elif kind == "zero":
        start = chance.randrange(low, len(data))
        stop = min(len(data), start + chance.randrange(100, 3000))
        result[start:stop] = bytes(stop - start)
    elif kind == "shuffle":
        start = chance.randrange(low, len(data) - 4096)
        blocks = [result[start + i : start + i + 512] for i in range(0, 4096, 512)]
        chance.shuffle(blocks)
        result[start : start + 4096] = b"".join(blocks)
    else:
        del result[chance.randrange(low, len(data)) :]
    return bytes(result)


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """What became of all frames of all damaged copies of a clip."""
    folder = tmp_path_factory.mktemp("damage")
    clip = folder / "whole.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi"]
    command += ["-i", "testsrc2=s=320x240:r=25", "-vf", "noise=alls=8:allf=t"]
    command += ["-frames:v", str(N_FRAMES), "-c:v", "libx264", "-threads", "1", "-g", "25"]
    command += ["-bf", "2", "-movflags", "+faststart", str(clip)]
    subprocess.run(command, check=True)
    whole = pictures(clip)
    assert {status for status, _ in whole} == {"ok"}
    result: Counter[str] = Counter()
    for seed in range(N_DAMAGED):
        broken = folder / "broken.mp4"
        broken.write_bytes(damage(clip.read_bytes(), seed))
        rows = pictures(broken)
        result["rows"] += len(rows)
        for (status, seen), (_, expected) in zip(rows, whole, strict=False):
            result[("altered " if seen != expected else "sound ") + status] += 1
    print({name: result[name] for name in sorted(result)})
    return result


def test_no_row_is_lost(counts: Counter[str]):
    assert counts["rows"] == N_FRAMES * N_DAMAGED


def test_nine_of_ten_altered_pictures_are_not_ok(counts: Counter[str]):
    altered = sum(n for name, n in counts.items() if name.startswith("altered"))
    assert altered > 500
    assert counts["altered ok"] <= 0.1 * altered


def test_few_sound_pictures_are_distrusted(counts: Counter[str]):
    sound = sum(n for name, n in counts.items() if name.startswith("sound"))
    assert counts["sound ok"] >= 0.95 * sound


def test_behind_a_lost_chunk_of_an_avi_no_frame_comes_too_early(tmp_path: Path):
    clip = tmp_path / "whole.avi"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi"]
    command += ["-i", "testsrc2=s=160x120:r=25", "-frames:v", "40", "-c:v", "mpeg4", "-g", "10"]
    subprocess.run([*command, str(clip)], check=True)
    whole = pictures(clip)
    data = bytearray(clip.read_bytes())
    start = data.index(b"movi")
    for _ in range(16):  # the header of the chunk of frame 15
        start = data.index(b"00dc", start + 4)
    data[start : start + 40] = bytes(40)
    clip.write_bytes(data)
    rows = pictures(clip)
    assert len(rows) == 40
    assert rows[15] == ("missing", None)
    assert [status for status, _ in rows[16:20]] == ["suspect"] * 4  # they build on it
    assert rows[:15] + rows[20:] == whole[:15] + whole[20:]
