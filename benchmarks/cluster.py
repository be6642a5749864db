"""A run on Slurm next to the same run on this machine, and the overhead of a job there.

python -m benchmarks.cluster [--shards N] [--copies N] [--cores N] [-- OPTIONS OF SNAKEMAKE]

Needs a Slurm whose nodes see the working folder, the profile in `workflow/profiles/slurm` with its
account and partition, and squeue that still knows of finished jobs. Options after `--` are added to
the run on Slurm.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import REPOSITORY, Setting, copies
from benchmarks.workflow import SETTINGS, fresh, snakemake
from pvio.pipeline.planning.manifest import Receipt, read_receipt

_FORMAT = "SubmitTime:|,StartTime:|,EndTime:|,Comment:|"


class Job(NamedTuple):
    """An infer job on the cluster; seconds since 1970, whole ones."""

    submitted: float
    started: float
    ended: float
    shard: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--copies", type=int, default=64, help="of fly_pair_384, 1,100 frames each")
    parser.add_argument("--cores", type=int, default=2, help="of the run on this machine")
    parser.add_argument("options", nargs="*", help="of Snakemake, for the run on Slurm")
    arguments = parser.parse_args()
    # Where the nodes can see it, as they do not see a folder for temporary files.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        setting = Setting(Path(name), 1, False, {})
        files = [str(p) for p in copies(setting, "fly_pair_384.mp4", arguments.copies, 1100)]
        settings = {"videos": files, "shards": arguments.shards, **SETTINGS}
        profile = ["--workflow-profile", str(REPOSITORY / "workflow/profiles/slurm")]
        folder = fresh(setting.folder / "run")
        slurm = snakemake(folder, *profile, *arguments.options, cores=None, **settings)
        receipts = [read_receipt(path) for path in folder.glob("work/infer/*.json")]
        jobs = infer_jobs()
        folder = fresh(setting.folder / "run")
        local = snakemake(folder, cores=arguments.cores, **settings)
        own = [read_receipt(path) for path in folder.glob("work/infer/*.json")]
    by_shard = {receipt.shard: receipt for receipt in receipts}
    over = [job.ended - job.started - by_shard[job.shard].seconds for job in jobs]
    waits = [job.started - job.submitted for job in jobs]
    print(f"{len(files)} videos, {arguments.shards} infer jobs")
    print(f"on Slurm {slurm:.0f} s, on this machine {local:.0f} s")
    print(f"from the first submission to the last end of infer: {span(jobs):.0f} s")
    print(f"work of the infer jobs, summed: {work(receipts):.0f} s and {work(own):.0f} s")
    print(f"a job outside its work: median {statistics.median(over):.1f} s")
    print(f"from submission to start: {min(waits):.0f} to {max(waits):.0f} s")
    first = min(job.started for job in jobs) - min(job.submitted for job in jobs)
    print(f"from the first submission to the first frame: about {first + min(over):.0f} s")


def span(jobs: list[Job]) -> float:
    return max(job.ended for job in jobs) - min(job.submitted for job in jobs)


def work(receipts: list[Receipt]) -> float:
    return sum(receipt.seconds for receipt in receipts)


def infer_jobs() -> list[Job]:
    command = ["squeue", "--states=all", "--noheader", f"--Format={_FORMAT}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = []
    for line in lines:
        *times, comment = line.strip().strip("|").split("|")
        rule, _, shard = comment.partition("_wildcards_")
        if rule == "rule_infer":
            found.append(Job(*(datetime.fromisoformat(t).timestamp() for t in times), shard))
    return found


if __name__ == "__main__":
    main()
