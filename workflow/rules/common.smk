import os
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

from pvio import __version__ as PVIO_VERSION
from pvio.collection.names import NAMES_FILE, read_names
from pvio.collection.search import find_sources
from pvio.collection.fingerprint import fingerprint
from pvio.collection.names import renamed_results
from pvio.config.settings import parse_settings, save_settings, with_types
from pvio.errors import PvioError
from pvio.pipeline.jobs.environment import prepare_environment
from pvio.models.entry import model_fingerprint
from pvio.models.signature import check_arguments
from pvio.pipeline.jobs.signals import end_jobs_on_sigterm
from pvio.pipeline.results.stale import forget_what_is_out_of_date
from pvio.pipeline.planning.resources import advice, load_of, planned_shards
from pvio.pipeline.results.summary import read_summary
from pvio.text import printable, printable_lines

min_version("9.20")


try:
    CORES = workflow.cores or 1
except WorkflowError:  # `snakemake --unlock` needs none
    CORES = 1

# On a cluster every job reads this file again. What tells whether rules are to rerun is the main
# process's business: many jobs shall not look at all videos each.
COLLECTION, MODEL, N_VIDEOS = "", "", 0
# The files that Snakemake has merged; none where a `module` statement gives the settings.
given = workflow.config_settings
files = [str(path) for path in given.configfiles]
if not given.replace_workflow_config:
    files = [
        str(path) for path in workflow.configfiles if str(path) not in files
    ] + files
if workflow.modifier.skip_configfile:
    files = []
try:
    prepare_environment(
        os.environ, own=not workflow.deployment_settings.deployment_method
    )
    SETTINGS = parse_settings(with_types(config, given.config_args, files))
    if workflow.is_main_process:
        sources = find_sources(SETTINGS.videos, read_names(), logger.info)
        COLLECTION, N_VIDEOS = fingerprint(sources), len(sources)
        MODEL = model_fingerprint(SETTINGS.model, quick=True)
        check_arguments(SETTINGS.model)
        if SETTINGS.output.video != "none" and SETTINGS.output.options:
            from pvio.media.encode.check import check_encoder

            check_encoder(SETTINGS.output)
except PvioError as error:
    raise WorkflowError(printable_lines(error))

# One job per core of a machine, or per job that a cluster shall run at once (--jobs). A job of a cluster
# knows its own cores only, and finds the number in the plan.
SHARDS = SETTINGS.shards
if SHARDS == "auto":
    SHARDS = workflow.nodes or CORES
    if SHARDS == sys.maxsize:
        raise WorkflowError(
            "shards: auto takes the number of --jobs, which is unlimited"
        )
    if not workflow.is_main_process:
        SHARDS = planned_shards("work/shards") or SHARDS
ENCODES = SETTINGS.output.video == "overlay"
CHECKED = "work/checked" if "fail" in (SETTINGS.on_damaged, SETTINGS.on_failed) else []

# What each stage depends on: a changed setting runs the stages again that it concerns. The settings
# are handed over as a file, since a list of videos may be longer than a command line can be; its
# name tells its content.
PROBE_SETTINGS = save_settings(SETTINGS, "videos", "cache")
# All but the first two for the predicted costs, which costs.json refines without a rerun.
PLAN_SETTINGS = save_settings(
    SETTINGS, "cache", "segment_frames", "model", "decoder", "output"
)
COMPUTED_WITH = ("cache", "model", "decoder", "decoder_timeout", "stage")
INFER_SETTINGS = save_settings(SETTINGS, *COMPUTED_WITH)
ENCODE_SETTINGS = save_settings(SETTINGS, *COMPUTED_WITH, "output")
if SETTINGS.output.video == "frames":
    INFER_SETTINGS = ENCODE_SETTINGS
ASSEMBLE_SETTINGS = save_settings(SETTINGS, *COMPUTED_WITH, "output", "segment_frames")

if workflow.is_main_process:
    forget_what_is_out_of_date()


scattergather:
    infer=SHARDS,
    encode=SHARDS,


wildcard_constraints:
    scatteritem=r"\d+-of-\d+",


STARTED = time.time()


def longest_first(wildcards):
    """Priority of a shard: the first one has the most to do."""
    return SHARDS - int(wildcards.scatteritem.partition("-")[0])


def load(stage, wildcards):
    """What a shard has to do; not known before the plan is made."""
    found = load_of("work/shards", stage, wildcards.scatteritem)
    if workflow.is_main_process and workflow.non_local_exec:
        for text in advice("work/shards", since=STARTED):
            logger.warning(f"{text} (docs/clusters.md)")
    return found


# Jobs that cannot do without a GPU ask for one.
INFER_GPUS = int("cuda" in f"{SETTINGS.model.device} {SETTINGS.decoder}")
ENCODE_GPUS = int(SETTINGS.output.codec.endswith("nvenc"))
if SETTINGS.output.video == "frames":
    INFER_GPUS = max(INFER_GPUS, ENCODE_GPUS)


onstart:
    end_jobs_on_sigterm()


onsuccess:
    summary = Path("results/summary.tsv")
    rows = read_summary(summary) if summary.exists() else []
    bad = sum(row["status"] != "ok" for row in rows)
    if bad:
        print(
            f"{bad} of {len(rows)} videos are not ok: see {summary}",
            file=sys.stderr,
        )
    names = Path("results", NAMES_FILE)
    renamed = renamed_results() if names.exists() else {}
    if renamed and names.stat().st_mtime >= STARTED:
        old, new = next(iter(renamed.items()))
        print(
            printable(
                f"{len(renamed)} results have another name now, since their files were moved "
                f"({old} is {new}): see logs/assemble.log"
            ),
            file=sys.stderr,
        )


onerror:
    # Snakemake names the failed job and its log; this adds what went wrong.
    for path in sorted(Path("logs").rglob("*.log")):
        if path.stat().st_mtime < STARTED:
            continue
        text = f"\n{path.read_text(encoding='utf-8', errors='replace')}"
        _, found, error = text.rpartition("\nError: ")
        if found:
            print(f"\n{path}: {printable_lines(error.strip())}", file=sys.stderr)
