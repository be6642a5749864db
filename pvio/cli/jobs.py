"""The commands that the jobs of the workflow run, one for each rule.

Users can also call them. The stages are in `pvio.pipeline.stages`. Slow imports are in the
functions, so that `pvio --help` is fast.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pvio.cli.options import (
    config_option,
    out_option,
    plan_option,
    results_option,
    settings_of_job,
    shard_option,
    threads_option,
)
from pvio.concurrency.threads import limit_libraries
from pvio.pipeline.jobs.signals import exit_on_sigterm

if TYPE_CHECKING:
    from pvio.config.settings import Settings
    from pvio.pipeline.planning.manifest import Receipt
    from pvio.pipeline.stages.check import Policy


@click.command()
@config_option
@out_option
@results_option
@threads_option
def probe(config: str, out: Path, results: str | None, threads: int) -> None:
    """Find the videos of the collection and index their frames.

    Indexes are cached by path, size and modification time: videos seen before are not opened.
    A video that cannot be read is listed with the reason; the others continue.
    """
    limit_libraries(threads)
    from pvio.cache.atomic import write_json
    from pvio.pipeline.stages.probe import probe as run

    settings = settings_of_job(config)
    rows = run(settings, threads, results or settings.results)
    unreadable = [row for row in rows if row.status != "ok"]
    for row in unreadable:
        logging.warning("unreadable: %s: %s", row.path, row.reason)
    frames = sum(row.n_frames for row in rows)
    logging.info("%d videos, %d frames, %d unreadable", len(rows), frames, len(unreadable))
    write_json(out, rows)


@click.command()
@config_option
@click.option("--probe", "probe_path", required=True, help="What `pvio probe` wrote.")
@click.option("--shards", required=True, type=click.IntRange(1), help="Infer and encode jobs.")
@click.option(
    "--parts",
    type=click.Path(path_type=Path),
    help="Folder for the plans of the shards, and for the jobs' resources.",
)
@click.option("--identity", default="", help="Of collection and settings, as a digest.")
@results_option
@out_option
def plan(
    config: str,
    probe_path: str,
    shards: int,
    parts: Path | None,
    identity: str,
    results: str | None,
    out: Path,
) -> None:
    """Cut videos into segments and spread them over shards, longest processing time first."""
    from pvio.cache.atomic import atomic_path, write_json
    from pvio.models.entry import model_fingerprint
    from pvio.pipeline.planning.manifest import read_probe
    from pvio.pipeline.planning.registry import register
    from pvio.pipeline.planning.resources import write_shard_plans
    from pvio.pipeline.publishing.current import remove_outdated
    from pvio.pipeline.publishing.folders import publishing_name, remove_other_next
    from pvio.pipeline.stages.plan import make_plan

    settings = settings_of_job(config)
    results = results or settings.results
    manifest, resources = make_plan(read_probe(probe_path), settings, shards)
    remove_other_next(results, manifest.made_with)
    remove_outdated(results, manifest.made_with, manifest.videos)
    if parts is not None:
        where = publishing_name(results, manifest.made_with)
        write_shard_plans(parts, manifest, resources, identity, where)
    with atomic_path(out) as file:
        write_json(file, manifest)
        # Before the plan appears: from then on its entries are in use.
        register(file, out, settings, model_fingerprint(settings.model))


@click.command()
@config_option
@plan_option
@shard_option
@out_option
@results_option
@threads_option
def infer(
    config: str, plan_path: str, shard: str, out: Path, results: str | None, threads: int
) -> None:
    """Run the model over the segments of one shard.

    Finished segments are kept in the cache and never computed twice. A segment that fails is
    logged with its traceback and noted in the file that is written, and the others continue. If
    every video fails alike, the command ends with exit code 1.
    """
    limit_libraries(threads)
    from pvio.cache.atomic import write_json
    from pvio.pipeline.planning.manifest import read_shard_plan
    from pvio.pipeline.stages.infer import infer as run

    settings = settings_of_job(config)
    exit_on_sigterm()
    reexec_with_ffmpeg_libraries(settings)
    part, planned_at = read_shard_plan(plan_path, "infer", shard), os.stat(plan_path).st_mtime
    folder = results or settings.results
    write_json(out, run(part, settings, threads, results=folder, planned_at=planned_at))


@click.command()
@out_option
@click.argument("receipts", nargs=-1, type=click.Path(exists=True))
def inferred(out: Path, receipts: tuple[str, ...]) -> None:
    """Collect the segments at which infer jobs failed, for the encode jobs.

    RECEIPTS are the files, or folders of files, that the infer jobs wrote.
    """
    from pvio.cache.atomic import write_json
    from pvio.pipeline.planning.manifest import Receipt
    from pvio.pipeline.results.stale import note_stale

    found = _receipts(receipts)
    note_stale(found)
    failed = [done for receipt in found for done in receipt.segments if done.failure_reason]
    write_json(out, Receipt("infer", "failed", 0.0, failed))


@click.command()
@config_option
@plan_option
@shard_option
@click.option(
    "--inferred",
    type=click.Path(exists=True),
    help="What `pvio inferred` wrote: videos at which infer failed are not encoded.",
)
@results_option
@out_option
def encode(
    config: str, plan_path: str, shard: str, inferred: str | None, results: str | None, out: Path
) -> None:
    """Encode the segments of one shard again, with the model's drawing on them."""
    limit_libraries(1)
    from pvio.cache.atomic import write_json
    from pvio.pipeline.jobs.repair import repairing
    from pvio.pipeline.planning.manifest import failures_in, read_shard_plan
    from pvio.pipeline.stages.encode import encode as run
    from pvio.pipeline.stages.infer import infer as run_infer

    exit_on_sigterm()
    part, settings = read_shard_plan(plan_path, "encode", shard), settings_of_job(config)
    reexec_with_ffmpeg_libraries(settings)  # lost predictions may have to be computed
    rows = replace(part, stage="infer", segment_numbers=list(part.segments))
    failures = failures_in(_receipts((inferred,) if inferred else ()))
    receipt = repairing(
        lambda stage: [rows],
        settings,
        {"infer": lambda each, failed: run_infer(each, settings, failures=failed)},
        lambda failed: run(
            part, settings, failed, results or settings.results, os.stat(plan_path).st_mtime
        ),
        failures,
    )
    write_json(out, receipt)


@click.command()
@config_option
@plan_option
@results_option
@threads_option
@click.argument("receipts", nargs=-1, type=click.Path(exists=True))
def assemble(
    config: str, plan_path: str, results: str | None, threads: int, receipts: tuple[str, ...]
) -> None:
    """Concatenate finished segments to predictions, videos, a summary and a report.

    RECEIPTS are the files, or folders of files, that the infer and encode jobs wrote.
    """
    limit_libraries(threads)
    from pvio.pipeline.jobs.repair import repairing
    from pvio.pipeline.planning.manifest import failures_in, read_plan
    from pvio.pipeline.results.stale import note_stale
    from pvio.pipeline.stages.assemble import assemble as run
    from pvio.pipeline.stages.encode import encode as run_encode
    from pvio.pipeline.stages.infer import infer as run_infer

    exit_on_sigterm()
    plan_bytes = Path(plan_path).read_bytes()
    plan, settings, found = read_plan(plan_path), settings_of_job(config), _receipts(receipts)
    folder = results or settings.results
    reexec_with_ffmpeg_libraries(settings)  # lost predictions may have to be computed

    def plan_is_unchanged() -> bool:
        """Whether no other run has begun in this folder."""
        return Path(plan_path).exists() and Path(plan_path).read_bytes() == plan_bytes

    note_stale(found)  # also where the results are not written
    rows = repairing(
        plan.shard_plans,
        settings,
        {
            "infer": lambda each, failed: run_infer(each, settings, failures=failed),
            "encode": lambda each, failed: run_encode(each, settings, failed),
        },
        lambda failed: run(plan, settings, found, folder, threads, plan_is_unchanged, failed),
        failures_in(found),
    )
    note_stale(found, are_assembled=all(row.status != "failed" for row in rows))
    for row in rows:
        if row.status != "ok":
            logging.warning("%s: %s: %s", row.status, row.path, row.reason)
    logging.info("%d videos assembled in %s", len(rows), folder)


@click.command()
@click.argument("summary", default="results/summary.tsv", type=click.Path(exists=True))
@click.option(
    "--on-damaged", type=click.Choice(["mark", "fail"]), default="fail", show_default=True
)
@click.option("--on-failed", type=click.Choice(["mark", "fail"]), default="fail", show_default=True)
def check(summary: str, on_damaged: Policy, on_failed: Policy) -> None:
    """Fail when a video of SUMMARY is damaged, unreadable or failed, naming each.

    The options are the settings `on_damaged` and `on_failed`.
    """
    from pvio.pipeline.stages.check import check_summary

    text = Path(summary).read_text(encoding="utf-8")
    logging.info("%s", check_summary(text, on_damaged, on_failed))


def reexec_with_ffmpeg_libraries(settings: Settings) -> None:
    """Start this process again with FFmpeg's libraries on its path, if torchcodec needs them."""
    if settings.resolved_decoder != "torchcodec":
        return
    from pvio.media.ffmpeg.shared_libraries import environment_for_torchcodec

    environment = environment_for_torchcodec()
    if environment is not None:
        os.execve(sys.executable, [sys.executable, "-m", "pvio", *sys.argv[1:]], environment)


def _receipts(paths: tuple[str, ...]) -> list[Receipt]:
    from pvio.pipeline.planning.manifest import read_receipt

    files: list[Path] = []
    for path in map(Path, paths):
        files += sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [read_receipt(file) for file in files]


JOB_COMMANDS = (probe, plan, infer, inferred, encode, assemble, check)
