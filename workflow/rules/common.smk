import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from pvio import __version__ as PVIO_VERSION
from pvio.collection import find_sources, fingerprint
from pvio.config import parse_settings, save_settings, with_types
from pvio.errors import PvioError
from pvio.models.entry import model_fingerprint
from pvio.signals import end_jobs_on_sigterm
from pvio.stages.again import forget_what_is_out_of_date

min_version("9.20")


try:
    CORES = workflow.cores or 1
except WorkflowError:  # `snakemake --unlock` needs none
    CORES = 1

try:
    SETTINGS = parse_settings(with_types(config, workflow.config_settings.config_args))
    COLLECTION = fingerprint(find_sources(SETTINGS.videos))
    MODEL = model_fingerprint(SETTINGS.model, quick=True)
except PvioError as error:
    raise WorkflowError(str(error))

SHARDS = CORES if SETTINGS.shards == "auto" else SETTINGS.shards
ENCODES = SETTINGS.output.video == "overlay"
CHECKED = "work/checked" if SETTINGS.on_damaged == "fail" else []

# What each stage depends on: a changed setting runs the stages again that it concerns. The settings
# are handed over as a file, since a list of videos may be longer than a command line can be; its
# name tells its content.
PROBE_SETTINGS = save_settings(SETTINGS, "videos", "cache")
# All but the first two for the predicted costs, which costs.json refines without a rerun.
PLAN_SETTINGS = save_settings(
    SETTINGS, "cache", "segment_frames", "model", "decoder", "output"
)
COMPUTED_WITH = ("cache", "model", "decoder", "decoder_timeout")
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


onstart:
    end_jobs_on_sigterm()


onsuccess:
    summary = Path("results/summary.tsv")
    lines = summary.read_text().splitlines()[1:] if summary.exists() else []
    bad = sum(line.split("\t")[2] != "ok" for line in lines)
    if bad:
        print(
            f"{bad} of {len(lines)} videos are not ok: see {summary}",
            file=sys.stderr,
        )


onerror:
    # Snakemake names the failed job and its log; this adds what went wrong.
    for path in sorted(Path("logs").rglob("*.log")):
        text = f"\n{path.read_text(errors='replace')}"
        _, found, error = text.rpartition("\nError: ")
        if found and path.stat().st_mtime >= STARTED:
            print(f"\n{path}: {error.strip()}", file=sys.stderr)
