"""Re-encoding with an overlay, concatenating segments, writing RGB frames."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    CORES,
    FFMPEG,
    REPOSITORY,
    Row,
    Setting,
    copies,
    printed_number,
    python,
    seconds,
    side_by_side,
)
from pvio.cache.entries import Cache
from pvio.config.settings import parse_settings
from pvio.media.encode.concat import concat_segments
from pvio.media.ffmpeg.shared_libraries import environment_for_torchcodec
from pvio.media.index.cached import load_index
from pvio.pipeline.planning.manifest import read_plan, read_receipt
from pvio.pipeline.stages.encode import encode

CLIPS = ("fly_arena_1024.mp4", "mouse_396x406.mp4")
QUALITY = ("-c:v", "libx264", "-crf", "18", "-preset", "medium")


def rows(setting: Setting) -> Iterator[Row]:
    for clip in CLIPS[-1:] if setting.small else CLIPS:
        name = Path(clip).stem
        frames = 8 if setting.small else 200
        files = copies(setting, clip, 2 * CORES, frames)
        job = Encoding(setting.folder / f"encoding-{name}", files)
        what = f"overlay, {name}, {CORES} jobs"
        limit = partial(ffmpeg_rate, files, len(files) * frames)
        yield side_by_side(setting, what, "frames/s", "≥ 0.9 × limit", job.rate, limit=limit)
        yield Row(f"start-up of these {CORES} jobs, not in the row above", "s", job.start_up)
        yield side_by_side(
            setting, f"concatenating / encoding, {name}", "s/s", "< 0.05", job.share_of_joining
        )
        peers = {
            version: partial(write, files[0], folder)
            for version, folder in setting.peers.items()
            if version == "0.1.3"
        }
        what = f"write_frames_to_video, {name}"
        ours = partial(write, files[0], REPOSITORY)
        yield side_by_side(setting, what, "frames/s", "≥ 1.5 × peer", ours, peers=peers)


class Encoding:
    """Encode jobs on a plan whose predictions are there: the default model and settings."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self._folder, self._files = folder, files
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        settings = {"videos": [str(path) for path in files], "cache": str(folder / "cache")}
        self._config = json.dumps(settings)
        self._run("probe", "--out", "probe.json")
        self._run("plan", "--probe", "probe.json", "--shards", CORES, "--out", "plan.json")
        for command in self._shards("infer"):
            seconds(command, folder)
        self.start_up = 0.0

    def rate(self) -> float:
        """Frames per second of all jobs side by side, each from its first to its last segment.

        What a job takes before its first segment, mostly to import PyTorch, is its start-up. It
        does not grow with the videos, and is counted apart.
        """
        self._forget_videos()
        began = time.perf_counter()
        running = [
            subprocess.Popen(command, cwd=self._folder) for command in self._shards("encode")
        ]
        if any(process.wait() for process in running):
            raise RuntimeError("an encode job failed")
        wall = time.perf_counter() - began
        paths = [self._folder / f"encode-{number}.json" for number in range(1, CORES + 1)]
        receipts = [read_receipt(path) for path in paths]
        segments = [segment for receipt in receipts for segment in receipt.segments]
        assert all(segment.computed for segment in segments)
        busy = max(
            sum(segment.seconds["total"] for segment in receipt.segments) for receipt in receipts
        )
        self.start_up = wall - busy
        plan = read_plan(self._folder / "plan.json")
        return sum(segment.stop - segment.start for segment in plan.segments) / busy

    def share_of_joining(self) -> float:
        """Seconds of concatenating the segments of all videos over those of encoding them.

        They are encoded once more without publishing, which would release the segments.
        """
        plan = read_plan(self._folder / "plan.json")
        self._forget_videos()
        settings = parse_settings(json.loads(self._config))
        receipts = [encode(shard, settings) for shard in plan.shard_plans("encode")]
        cache = Cache(self._folder / "cache")
        names = [path.name for path in cache.root.glob("video/*/*")]
        by_digest = {cache.metadata("video", name)["digest"]: name for name in names}
        encoding = joining = 0.0
        parts: dict[int, list[tuple[int, int, bytes]]] = {}
        for receipt in receipts:
            for done in receipt.segments:
                segment = plan.segments[done.segment]
                encoding += done.seconds["total"]
                payload = cache.read("video", by_digest[done.digests["video"]])[0]
                parts.setdefault(segment.video, []).append((segment.start, segment.stop, payload))
        for video, segments in parts.items():
            index = load_index(plan.videos[video].path)
            began = time.perf_counter()
            concat_segments(sorted(segments), index, self._folder / "joined.mp4")
            joining += time.perf_counter() - began
        return joining / encoding

    def _forget_videos(self) -> None:
        """Remove all that encode jobs made."""
        for name in ("cache/video", "cache/released", "cache/product", "results"):
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def _shards(self, stage: str) -> list[list[str]]:
        options = [stage, "--plan", "plan.json"]
        return [
            self._command(*options, "--shard", f"{k}-of-{CORES}", "--out", f"{stage}-{k}.json")
            for k in range(1, CORES + 1)
        ]

    def _run(self, *arguments: Any) -> None:
        seconds(self._command(*arguments), self._folder)

    def _command(self, stage: str, *arguments: Any) -> list[str]:
        return python("-m", "pvio", "-q", stage, "--config", self._config, *arguments)


def ffmpeg_rate(files: list[Path], n_frames: int) -> float:
    """Frames per second of FFmpeg's command with as many threads, in the faster of two ways."""
    began = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(partial(ffmpeg_encode, threads=1), files))
    processes = n_frames / (time.perf_counter() - began)
    began = time.perf_counter()
    for path in files:
        ffmpeg_encode(path, CORES)
    return max(processes, n_frames / (time.perf_counter() - began))


def ffmpeg_encode(path: Path, threads: int) -> None:
    out = path.with_suffix(".encoded.mp4")
    command = [FFMPEG, "-v", "error", "-y", "-threads", str(threads), "-i", str(path), "-an"]
    subprocess.run([*command, *QUALITY, "-threads", str(threads), str(out)], check=True)


def write(path: Path, package: Path) -> float:
    script = Path(__file__).with_name("encoding_run.py")
    environment = environment_for_torchcodec() or dict(os.environ)
    return printed_number(
        python("-P", script, path, path.with_suffix(".written.mp4")),
        PYTHONPATH=str(package),
        LD_LIBRARY_PATH=environment.get("LD_LIBRARY_PATH", ""),
    )
