"""Names of all files of a run: of the folders `work/`, `results/` and `logs/`, and of the cache.

The rules of the workflow use the same names; a test compares them.
"""

from __future__ import annotations

from typing import Literal

# Stages whose jobs work on segments, each with a folder of receipts, `work/<stage>/`.
Stage = Literal["infer", "encode"]
STAGES: tuple[Stage, ...] = ("infer", "encode")
# Kinds of entries of the cache, each with a folder of its own.
# A released segment is part of a product, which the cache keeps in its place.
Kind = Literal["index", "predictions", "video", "released", "product"]
KINDS: tuple[Kind, ...] = ("index", "predictions", "video", "released", "product")

# The working folder: tables between the stages, and logs.
PROBE_FILE = "work/probe.json"
PLAN_FILE = "work/plan.json"
SHARDS_FOLDER = "work/shards"
SETTINGS_FOLDER = "work/settings"
INFERRED_FILE = "work/inferred"
ASSEMBLED_FILE = "work/assembled"
CHECKED_FILE = "work/checked"
REPORT_COPY = "work/report.html"
# Notes that shards or results are to be made again.
STALE_FOLDER = "work/stale"
LOGS_FOLDER = "logs"
SNAKEMAKE_LOCKS = ".snakemake/locks"

# Below `work/shards`: resources of all jobs. Versions up to 0.2 called the file loads.json.
RESOURCES_FILE = "resources.json"
OLD_RESOURCES_FILE = "loads.json"

# How far each job is.
PROGRESS_FOLDER = "work/progress"
# Of the files there with what happens to each video.
STATES_SUFFIX = ".videos.jsonl"
# Below `work/shards`: how many videos there are.
COLLECTION_SIZE_FILE = "videos.json"
# For what the plan was made: a digest.
PLAN_IDENTITY_FILE = "identity"

# Below the results.
RESULTS_FOLDER = "results"
SUMMARY_FILE = "summary.tsv"
REPORT_FILE = "report.html"
RESULTS_PLAN_FILE = "plan.json"
# Which products there are; a folder with this file is one of results, and no input.
PRODUCTS_FILE = ".products.json"
# What jobs published since: notes of products, a file for each job.
JOURNAL_FOLDER = ".products"
# Of the folder next to the results, in which products of other settings appear.
NEXT_SUFFIX = ".next"
# Names of the videos.
NAMES_FILE = ".names.json"
# What the products were made with.
RUN_FILE = ".run.json"

# Below the cache.
COSTS_FILE = "costs.json"
RUNS_FOLDER = "runs"
TEMPORARY_FOLDER = "tmp"


def named_videos_file(digest: str) -> str:
    """The videos of a command line, for jobs of a cluster; `digest` is that of their names."""
    return f"work/videos-{digest}.json"


def receipt_file(stage: Stage, shard: str) -> str:
    """The receipt of a shard's job, in the working folder; `shard` is "k-of-n"."""
    return f"work/{stage}/{shard}.json"


def shard_plan_file(stage: Stage, shard: str) -> str:
    """The plan of a shard's job, below `SHARDS_FOLDER`."""
    return f"{stage}/{shard}.json"


def predictions_file(name: str) -> str:
    """The predictions of a video, below the results."""
    return f"predictions/{name}.parquet"


def video_file(name: str, suffix: str) -> str:
    """The re-encoded video of a video, below the results; `suffix` is ".mp4" or ".mkv"."""
    return f"videos/{name}{suffix}"
