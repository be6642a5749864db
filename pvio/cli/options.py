"""The `pvio` command: the stages of the workflow, and tools to look at videos and set-ups."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

import pvio
from pvio.concurrency.threads import limit_libraries
from pvio.config.load import load_merged, load_settings
from pvio.config.settings import Settings
from pvio.errors import PvioError, no_space
from pvio.pipeline.jobs.log import log_to_stderr
from pvio.pipeline.jobs.signals import exit_on_sigterm
from pvio.text import printable, printable_lines

if TYPE_CHECKING:
    from pvio.pipeline.planning.manifest import Receipt
    from pvio.pipeline.stages.check import Policy

CONFIG_FILE = "config.yaml"

config_option = click.option(
    "--config",
    "--configfile",  # as Snakemake calls it
    "config",
    default=CONFIG_FILE,
    show_default=True,
    metavar="FILE_OR_TEXT",
    help="A config.yaml, or its content as YAML or JSON text that starts with '{'.",
)
run_config_option = click.option(
    "--config",
    "--configfile",
    "config",
    multiple=True,
    metavar="FILE_OR_TEXT",
    help="What Snakemake was given beside config.yaml: a file or KEY=VALUE; may be repeated. Or "
    "all settings as YAML or JSON text that starts with '{'.",
)
more_config_argument = click.argument("more", nargs=-1, metavar="[KEY=VALUE]...")
plan_option = click.option(
    "--plan",
    "plan_path",
    required=True,
    type=click.Path(),
    help="What `pvio plan` wrote; for a shard its part will do.",
)
out_option = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="File to write."
)
threads_option = click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="Cores to use."
)


class _Group(click.Group):
    """Shows errors that pvio raises on purpose as one message instead of a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except PvioError as error:
            raise click.ClickException(printable_lines(error)) from error
        except KeyboardInterrupt as error:
            raise click.ClickException(
                "interrupted (Ctrl-C). What was finished is kept: the same command goes on from "
                "there"
            ) from error
        except SystemExit as error:
            if error.code == 128 + signal.SIGTERM:
                click.echo(
                    "Error: ended from outside (SIGTERM): cancelled, preempted, or at its time "
                    "limit. What was finished is kept",
                    err=True,
                )
            raise
        except OSError as error:
            if no_space(error):
                raise click.ClickException(no_space(error)) from error
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pvio.__version__, prog_name="pvio")
@click.option("-q", "--quiet", is_flag=True, help="Report warnings and errors only.")
@click.pass_context
def main(context: click.Context, quiet: bool) -> None:
    """Run a PyTorch model over every frame of many videos.

    `pvio run` does all of it, with Snakemake. Its workflow calls the stages probe, plan, infer,
    encode and assemble in this order; each can be called by hand as well. `pvio init` begins
    settings and a model of your own, `pvio status` tells what is done and what is to do, `pvio
    info` looks at a video, `pvio doctor` at the installation.
    """
    if context.invoked_subcommand != "run":  # Snakemake writes its own messages
        log_to_stderr(logging.WARNING if quiet else logging.INFO)


class _PassedOn(click.Command):
    """A command whose arguments are passed on as they are, but for a call for help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        if not {"-h", "--help"}.isdisjoint(args[:end]):
            return super().parse_args(ctx, ["--help"])
        ctx.params["arguments"] = tuple(args)
        return []


@main.command(cls=_PassedOn, options_metavar="")
@click.argument("arguments", nargs=-1, metavar="[VIDEOS]... [SNAKEMAKE_OPTIONS]...")
def run(arguments: tuple[str, ...]) -> None:
    """Run the whole workflow: Snakemake with pvio's rules.

    VIDEOS are files, folders, globs, images or lists, and take the place of the setting `videos`.
    The other settings are those of the config.yaml in this folder, if there is one. Results go to
    results/. All options are Snakemake's (`snakemake --help`); without --cores, --jobs, --executor
    and a profile that says otherwise it takes all cores of this machine.

    \b
    pvio run --cores all clips/*.mp4
    pvio run clips/*.mp4 --config shards=8 cache=/scratch/pvio
    pvio run -n

    Options that take several values, such as --config, would take videos for values: give these
    first, or after `--`.
    """  # noqa: D301
    from pvio.cli.run import run_workflow

    if not run_workflow(arguments):
        raise SystemExit(1)


@main.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def init(folder: Path, force: bool) -> None:
    """Lay config.yaml and model.py into FOLDER, to begin with a model of your own.

    config.yaml has every setting with its default and a comment, but for the model, which is that
    of model.py: a template that works as it is. Then `pvio run VIDEOS` there.
    """
    from pvio.cli.init import lay_files

    for path in lay_files(folder, force=force):
        click.echo(printable(f"wrote {path}"))


@main.command()
@config_option
@out_option
@click.option(
    "--results", default="results", show_default=True, help="Folder of the products, for names."
)
@threads_option
def probe(config: str, out: Path, results: str, threads: int) -> None:
    """Find the videos of the collection and index their frames.

    Indexes are cached by path, size and modification time: videos seen before are not opened.
    A video that cannot be read is listed with the reason; the others go on.
    """
    limit_libraries(threads)
    from pvio.cache.atomic import write_json
    from pvio.pipeline.stages.probe import probe as run

    rows = run(_settings(config), threads, results)
    unreadable = [row for row in rows if row.status != "ok"]
    for row in unreadable:
        logging.warning("unreadable: %s: %s", row.path, row.reason)
    frames = sum(row.n_frames for row in rows)
    logging.info("%d videos, %d frames, %d unreadable", len(rows), frames, len(unreadable))
    write_json(out, rows)


@main.command()
@config_option
@click.option("--probe", "probe_path", required=True, help="What `pvio probe` wrote.")
@click.option("--shards", required=True, type=click.IntRange(1), help="Infer and encode jobs.")
@click.option(
    "--parts",
    type=click.Path(path_type=Path),
    help="Folder for what each job needs of the plan, and for the jobs' resources.",
)
@out_option
def plan(config: str, probe_path: str, shards: int, parts: Path | None, out: Path) -> None:
    """Cut videos into segments and spread them over shards, longest processing time first."""
    from pvio.cache.atomic import atomic_path, write_json
    from pvio.models.entry import model_fingerprint
    from pvio.pipeline.planning.manifest import read_probe
    from pvio.pipeline.planning.registry import register
    from pvio.pipeline.planning.resources import write_shard_plans
    from pvio.pipeline.stages.plan import make_plan

    settings = _settings(config)
    manifest, resources = make_plan(read_probe(probe_path), settings, shards)
    if parts is not None:
        write_shard_plans(parts, manifest, resources)
    with atomic_path(out) as file:
        write_json(file, manifest)
        # Before the plan appears: from then on its entries are in use.
        register(file, out, settings, model_fingerprint(settings.model))


@main.command()
@config_option
@plan_option
@click.option("--shard", required=True, metavar="K-of-N", help="Which shard of the plan.")
@out_option
@threads_option
def infer(config: str, plan_path: str, shard: str, out: Path, threads: int) -> None:
    """Run the model over the segments of one shard.

    Finished segments are kept in the cache and never computed twice. A segment that fails is
    logged with its traceback and noted in the file that is written, and the others go on. Where
    every video fails alike, the command ends with exit code 1.
    """
    limit_libraries(threads)
    from pvio.cache.atomic import write_json
    from pvio.pipeline.planning.manifest import read_shard_plan
    from pvio.pipeline.stages.infer import infer as run

    settings = _settings(config)
    exit_on_sigterm()
    reexec_with_ffmpeg_libraries(settings)
    write_json(out, run(read_shard_plan(plan_path, "infer", shard), settings, threads))


@main.command()
@out_option
@click.argument("receipts", nargs=-1, type=click.Path(exists=True))
def inferred(out: Path, receipts: tuple[str, ...]) -> None:
    """Collect which segments the infer jobs failed at, for the encode jobs.

    RECEIPTS are the files, or folders of files, that the infer jobs wrote.
    """
    from pvio.cache.atomic import write_json
    from pvio.pipeline.planning.manifest import Receipt
    from pvio.pipeline.results.stale import note_stale

    found = _receipts(receipts)
    note_stale(found)
    failed = [done for receipt in found for done in receipt.segments if done.failure_reason]
    write_json(out, Receipt("infer", "failed", 0.0, failed))


@main.command()
@config_option
@plan_option
@click.option("--shard", required=True, metavar="K-of-N", help="Which shard of the plan.")
@click.option(
    "--inferred",
    type=click.Path(exists=True),
    help="What `pvio inferred` wrote: videos at which infer failed are not encoded.",
)
@out_option
def encode(config: str, plan_path: str, shard: str, inferred: str | None, out: Path) -> None:
    """Encode the segments of one shard again, with the model's drawing on them."""
    limit_libraries(1)
    from pvio.cache.atomic import write_json
    from pvio.pipeline.jobs.repair import repairing
    from pvio.pipeline.planning.manifest import failures_in, read_shard_plan
    from pvio.pipeline.stages.encode import encode as run
    from pvio.pipeline.stages.infer import infer as run_infer

    exit_on_sigterm()
    part, settings = read_shard_plan(plan_path, "encode", shard), _settings(config)
    reexec_with_ffmpeg_libraries(settings)  # lost predictions may have to be computed
    rows = replace(part, stage="infer", segment_numbers=list(part.segments))
    failures = failures_in(_receipts((inferred,) if inferred else ()))
    receipt = repairing(
        lambda stage: [rows],
        settings,
        {"infer": lambda each, failed: run_infer(each, settings, failures=failed)},
        lambda failed: run(part, settings, failed),
        failures,
    )
    write_json(out, receipt)


@main.command()
@config_option
@plan_option
@click.option("--results", default="results", show_default=True, help="Folder of the products.")
@threads_option
@click.argument("receipts", nargs=-1, type=click.Path(exists=True))
def assemble(
    config: str, plan_path: str, results: str, threads: int, receipts: tuple[str, ...]
) -> None:
    """Join finished segments into predictions, videos, a summary and a report.

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
    plan, settings, found = read_plan(plan_path), _settings(config), _receipts(receipts)
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
        lambda failed: run(plan, settings, found, results, threads, plan_is_unchanged, failed),
        failures_in(found),
    )
    note_stale(found, are_assembled=all(row.status != "failed" for row in rows))
    for row in rows:
        if row.status != "ok":
            logging.warning("%s: %s: %s", row.status, row.path, row.reason)
    logging.info("%d videos assembled in %s", len(rows), results)


@main.command()
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

    check_summary(Path(summary).read_text(encoding="utf-8"), on_damaged, on_failed)
    logging.info("the videos are as they must be")


@main.command()
@click.option("--results", default="results", show_default=True, help="Folder of the products.")
def verify(results: str) -> None:
    """Check finished results again: counts, time stamps, statuses, digests.

    Says which rows are not ok; ends with exit code 1 when a result is not as it must be.
    """
    from pvio.pipeline.results.verify import verify as run

    faults, remarks = run(Path(results))
    for line in remarks:
        click.echo(printable(f"not ok  {line}"))
    for line in faults:
        click.echo(printable(f"FAULT   {line}"))
    if faults:
        raise PvioError(
            f"{len(faults)} fault(s) in {results}; snakemake --forcerun assemble writes what is "
            "lost or was changed again, from the cache"
        )
    click.echo(f"{results} is as it was written")


@main.command()
@run_config_option
@click.option("--results", default="results", show_default=True, help="Folder of the products.")
@click.option("--cores", type=click.IntRange(1), help="For the time left; all of this machine.")
@click.option("--json", "as_text", is_flag=True, help="As JSON, for programs.")
@more_config_argument
def status(
    config: tuple[str, ...], results: str, cores: int | None, as_text: bool, more: tuple[str, ...]
) -> None:
    """Tell what is done, what is to do and why, and how long it will take.

    Also while the workflow runs, on this machine or on a cluster: frames a second of all jobs
    together, time left, and which jobs failed. Nothing is computed. Behind --config may stand
    several KEY=VALUE, or behind --configfile several files, as for Snakemake.
    """
    from pvio.cli.status.compare import as_json
    from pvio.cli.status.compare import status as find
    from pvio.cli.status.text import describe

    found = find(_settings_of_run(config, more), Path.cwd(), results)
    if as_text:
        click.echo(json.dumps(as_json(found), indent=1))
    else:
        click.echo(describe(found, cores or os.cpu_count() or 1))


@main.command()
@run_config_option
@click.option("--unused", is_flag=True, required=True, help="What no run refers to any more.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--forget", multiple=True, metavar="FOLDER", help="A working folder whose runs need nothing."
)
@more_config_argument
def clean(
    config: tuple[str, ...], unused: bool, yes: bool, forget: tuple[str, ...], more: tuple[str, ...]
) -> None:
    """Remove from the cache what no run needs any more.

    Kept is what the settings refer to, and the last plan of every working folder that shares the
    cache, whether it is running or not, and what was written within the last ten minutes. Says how
    much it is and asks first. Behind --config may stand several KEY=VALUE, or behind --configfile
    several files, as for Snakemake.
    """
    from pvio.cli.clean import SECONDS_OF_GRACE, find_unused, remove
    from pvio.pipeline.planning.registry import forget_runs

    settings = _settings_of_run(config, more)
    forget_runs(settings.cache, forget)
    found = find_unused(settings, logging.warning)
    for run in found.runs:
        click.echo(printable(f"in use by {run}"))
    for kind, paths in found.paths.items():
        click.echo(f"unused: {len(paths)} {kind} entries, {found.sizes[kind] / 1e6:.1f} MB")
    if found.young:
        minutes = SECONDS_OF_GRACE / 60
        click.echo(
            f"kept: {found.young} unused entries that are younger than {minutes:.0f} minutes"
        )
    click.echo(f"in use: {found.kept} entries")
    if not any(found.paths.values()):
        click.echo("nothing to remove")
        return
    if yes or click.confirm(f"Remove them from {settings.cache}?"):
        remove(found, settings)
        click.echo("removed")


@main.command()
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True))
def info(videos: tuple[str, ...]) -> None:
    """Show what pvio knows of VIDEOS: frames, times, size, codec, keyframes."""
    from pvio.cli.info import describe_video

    failed = False
    for path in videos:
        try:
            click.echo(printable_lines(describe_video(path)))
        except PvioError as error:
            click.echo(f"Error: {printable_lines(error)}", err=True)
            failed = True
    if failed:
        raise SystemExit(1)


@main.command()
def doctor() -> None:
    """Check the installation: versions, FFmpeg in use, encoders, devices."""
    from pvio.cli.doctor import diagnose

    healthy, text = diagnose()
    click.echo(text)
    if not healthy:
        raise SystemExit(1)


def _settings(config: str) -> Settings:
    return load_settings(config)


def _settings_of_run(config: tuple[str, ...], more: tuple[str, ...]) -> Settings:
    """The settings that Snakemake takes in this folder, when it is given the same files or keys.

    Args:
        config: what stood behind each `--config` or `--configfile`.
        more: the further ones, which Snakemake takes there too.
    """
    if more and not config:
        raise click.UsageError(
            f"Got unexpected extra argument ({more[0]}); settings stand behind --config"
        )
    if not config and not Path(CONFIG_FILE).exists():
        raise PvioError(
            f"there is no {CONFIG_FILE} here: give --config FILE, or --config '{{...}}' or "
            "--config KEY=VALUE with the settings that the run was given"
        )
    return load_merged(CONFIG_FILE, config + more)


def _receipts(paths: tuple[str, ...]) -> list[Receipt]:
    from pvio.pipeline.planning.manifest import read_receipt

    files: list[Path] = []
    for path in map(Path, paths):
        files += sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [read_receipt(file) for file in files]


def reexec_with_ffmpeg_libraries(settings: Settings) -> None:
    """Start this process again with FFmpeg's libraries on its path, if torchcodec needs them."""
    if settings.resolved_decoder != "torchcodec":
        return
    from pvio.media.ffmpeg.shared_libraries import environment_for_torchcodec

    environment = environment_for_torchcodec()
    if environment is not None:
        os.execve(sys.executable, [sys.executable, "-m", "pvio", *sys.argv[1:]], environment)
