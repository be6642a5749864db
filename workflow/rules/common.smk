import os
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

from pvio import __version__ as PVIO_VERSION
from pvio.collection.names import names_without_video, read_names
from pvio.collection.search import find_sources
from pvio.collection.fingerprint import fingerprint
from pvio.collection.names import renamed_results
from pvio.pipeline.publishing.current import some
from pvio.config.load import with_types
from pvio.config.renamed import with_current_names
from pvio.config.settings import parse_settings
from pvio.errors import PvioError
from pvio.layout import (
    LOGS_FOLDER,
    NAMES_FILE,
    SETTINGS_FOLDER,
    SHARDS_FOLDER,
    STALE_FOLDER,
)
from pvio.pipeline.jobs.environment import prepare_environment
from pvio.pipeline.jobs.log import errors_of, file_system_time
from pvio.models.entry import model_fingerprint
from pvio.models.signature import check_arguments
from pvio.pipeline.jobs.signals import terminate_jobs_on_sigterm
from pvio.pipeline.planning.stage_inputs import plan_identity, stage_inputs
from pvio.pipeline.progress.line import describe_end, show_progress
from pvio.pipeline.results.product_table import read_products
from pvio.pipeline.publishing.folders import next_folder, run_of
from pvio.pipeline.results.stale import (
    correct_future_times,
    lost_results_note,
    stale_note,
)
from pvio.pipeline.planning.resources import (
    planned_shards,
    read_job_resources,
    settled_shards,
    shard_count_warnings,
)
from pvio.pipeline.results.summary import read_summary
from pvio.text import printable, printable_lines

min_version("9.20")


try:
    CORES = workflow.cores or 1
except WorkflowError:  # `snakemake --unlock` needs none
    CORES = 1

# On a cluster every job reads this file again. Only the main process computes rerun triggers; cluster
# jobs must not stat every video.
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
    typed = with_types(config, given.config_args, files)
    current, renamed = with_current_names(typed)
    SETTINGS = parse_settings(current)
    RESULTS = SETTINGS.results
    # In a name with wildcards, braces are doubled.
    RESULTS_PATTERN = RESULTS.replace("{", "{{").replace("}", "}}")
    if workflow.is_main_process:
        for warning in renamed:
            logger.warning(warning)
        sources = find_sources(
            SETTINGS.videos, read_names(RESULTS), logger.info, SETTINGS.exclude
        )
        gone = names_without_video(RESULTS, [source.path for source in sources])
        if gone:
            logger.warning(
                f"{len(gone)} videos with results in {RESULTS} are not in the collection any more "
                "(`videos`, `exclude`). The run removes their results at its end, or renames those of "
                f"moved files: {printable(some(gone))}"
            )
        COLLECTION, N_VIDEOS = fingerprint(sources), len(sources)
        MODEL = model_fingerprint(SETTINGS.model, quick=True)
        check_arguments(SETTINGS.model)
        if SETTINGS.output.makes_video and SETTINGS.output.options:
            from pvio.media.encode.check import check_encoder

            check_encoder(SETTINGS.output)
except PvioError as error:
    raise WorkflowError(printable_lines(error))

# The settings of each stage: a changed setting reruns the stages that depend on it. Jobs read the
# settings from files, which the rule `settings` writes, since a list of videos may be too long for a
# command line. The name of a file is the digest of its content.
INPUTS = stage_inputs(SETTINGS)
IDENTITY = plan_identity(INPUTS, COLLECTION, MODEL, PVIO_VERSION)

# One job per core of a machine, or per job that a cluster may run at once (--jobs). A cluster job knows
# only its own cores, and reads the number from the plan. Where all jobs have ended, their number stays.
SHARDS = SETTINGS.shards
if SHARDS == "auto":
    SHARDS = workflow.nodes or CORES
    if not workflow.is_main_process:
        SHARDS = planned_shards(SHARDS_FOLDER) or SHARDS
    elif settled := settled_shards(SHARDS_FOLDER, IDENTITY, SETTINGS.output.stages):
        SHARDS = settled
    if SHARDS == sys.maxsize:
        raise WorkflowError(
            "shards: auto takes the number of --jobs, which is unlimited"
        )
ENCODES = "encode" in SETTINGS.output.stages
CHECKED = "work/checked" if "fail" in (SETTINGS.on_damaged, SETTINGS.on_failed) else []


scattergather:
    infer=SHARDS,
    encode=SHARDS,


wildcard_constraints:
    scatteritem=r"\d+-of-\d+",
    digest=r"[0-9a-f]{12}",
    loss=r"\d+",


# Start time of the run, by the clock of its file system. It is set by `onstart`, since reading the
# workflow must not write files.
STARTED = [time.time()]
# The line that shows the progress, and what keeps the summary current, once the run has started.
PROGRESS = []
SUMMARIES = []


def settings_text(wildcards):
    """The content of a file of settings."""
    return next(
        each.text for each in INPUTS.values() if each.digest == wildcards.digest
    )


def stale_infer(wildcards):
    """The note that an infer job must run again, if there is one."""
    return stale_note("infer", wildcards.scatteritem)


def stale_encode(wildcards):
    """The note that an encode job must run again, if there is one."""
    return stale_note("encode", wildcards.scatteritem)


def assembled(wildcards):
    """The mark that the results are complete, once they are."""
    return checkpoints.assemble.get().output[0]


# The note that finished results were lost, if they ever were. The main process looks for lost files;
# jobs of a cluster must not list all results.
LOST_RESULTS = lost_results_note(RESULTS, looks=workflow.is_main_process)
