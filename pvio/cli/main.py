"""The `pvio` command: the subcommands for users; `pvio.cli.jobs` has those of the workflow."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
from pathlib import Path

import click

import pvio
from pvio.cli.jobs import JOB_COMMANDS
from pvio.cli.options import (
    configured_results,
    more_config_argument,
    results_option,
    run_config_option,
    settings_of_run,
)
from pvio.errors import PvioError, no_space
from pvio.pipeline.jobs.log import log_to_stderr
from pvio.text import printable, printable_lines


class _Group(click.Group):
    """Shows errors that pvio raises on purpose as one message instead of a traceback.

    The help lists what users type apart from what the workflow's rules call.
    """

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both lists, each command with the first sentence of its help, uncut."""
        jobs = {command.name: command for command in JOB_COMMANDS}
        users = {name: each for name, each in self.commands.items() if name not in jobs}
        for title, commands in (
            ("Commands", users),
            ("Called by the workflow's rules, in this order", jobs),
        ):
            rows = [
                (str(name), command.get_short_help_str(limit=1000))
                for name, command in commands.items()
            ]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except PvioError as error:
            raise click.ClickException(printable_lines(error)) from error
        except KeyboardInterrupt as error:
            raise click.ClickException(
                "interrupted (Ctrl-C). Finished segments are kept: the same command continues "
                "from there"
            ) from error
        except SystemExit as error:
            if error.code == 128 + signal.SIGTERM:
                click.echo(
                    "Error: terminated (SIGTERM): cancelled, preempted, or at its time limit. "
                    "Finished segments are kept",
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
    encode and assemble in this order; you can also call each one yourself. `pvio init` writes
    settings and a model template, `pvio status` reports progress, `pvio info` describes a video,
    and `pvio doctor` checks the installation.
    """
    if context.invoked_subcommand != "run":  # Snakemake writes its own messages
        log_to_stderr(logging.WARNING if quiet else logging.INFO)


for _command in JOB_COMMANDS:
    main.add_command(_command)


class _PassedOn(click.Command):
    """A command that passes its arguments unchanged, except for a call for help."""

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

    VIDEOS are files, folders, globs, images or lists, and replace the setting `videos`.
    The other settings are those of the config.yaml in this folder, if there is one. Results go to
    results/. All options are Snakemake's (`snakemake --help`); without --cores, --jobs, --executor
    and a profile that sets them it takes all cores of this machine.

    \b
    pvio run --cores all clips/*.mp4
    pvio run clips/*.mp4 --config shards=8 cache=/scratch/pvio
    pvio run -n

    Options that take several values, such as --config, would take videos as values: give videos
    first, or after `--`.
    """  # noqa: D301
    from pvio.cli.run import run_workflow

    if not run_workflow(arguments):
        raise SystemExit(1)


@main.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def init(folder: Path, force: bool) -> None:
    """Write config.yaml and model.py into FOLDER, as a start for a model of your own.

    config.yaml has every setting with its default and a comment. Its model is that of model.py, a
    template that works unchanged. Then call `pvio run VIDEOS` in FOLDER.
    """
    from pvio.cli.init import write_templates

    for path in write_templates(folder, force=force):
        click.echo(printable(f"wrote {path}"))
    there = "" if folder == Path(".") else printable(f"cd {folder}; ")
    click.echo(
        f"Next: {there}put your videos into the folder videos, or set `videos` in config.yaml; "
        "adapt model.py; then `pvio run --cores all`."
    )


@main.command()
@results_option
def verify(results: str | None) -> None:
    """Check finished results again: counts, timestamps, statuses, digests.

    Lists rows that are not ok. The exit code is 1 if a result has an error.
    """
    from pvio.pipeline.results.verify import verify as run

    results = results or configured_results()
    errors, warnings = run(Path(results))
    for line in warnings:
        click.echo(printable(f"not ok  {line}"))
    for line in errors:
        click.echo(printable(f"ERROR   {line}"))
    if errors:
        raise PvioError(
            f"{len(errors)} error(s) in {results}; snakemake --forcerun assemble writes lost or "
            "changed files again, from the cache"
        )
    click.echo(f"{results} has no errors")


@main.command()
@run_config_option
@results_option
@click.option("--cores", type=click.IntRange(1), help="For the time left; all of this machine.")
@click.option("--json", "as_text", is_flag=True, help="As JSON, for programs.")
@more_config_argument
def status(
    config: tuple[str, ...],
    results: str | None,
    cores: int | None,
    as_text: bool,
    more: tuple[str, ...],
) -> None:
    """Show finished and remaining work, the reasons for it, and the time it will take.

    While the workflow runs, on this machine or on a cluster, it also shows the frames per second of
    all jobs together, the time left, and failed jobs. Nothing is computed. --config takes several
    KEY=VALUE, and --configfile several files, as in Snakemake.
    """
    from pvio.cli.status.compare import as_json
    from pvio.cli.status.compare import status as find
    from pvio.cli.status.text import describe

    settings = settings_of_run(config, more)
    found = find(settings, Path.cwd(), results or settings.results)
    if as_text:
        click.echo(json.dumps(as_json(found), indent=1))
    else:
        click.echo(describe(found, cores or os.cpu_count() or 1))


@main.command()
@results_option
@click.option("--once", is_flag=True, help="Print the state once.")
def watch(results: str | None, once: bool) -> None:
    """Show the run that works in this folder, with the state of each video, until it ends.

    It works for runs that another user started, and from another machine of a cluster. It writes
    nothing. In a log or a pipe it prints the state once.
    """
    from rich.console import Console

    from pvio.cli.watch import watch as show

    show(results or configured_results(), Console(), once=once)


@main.command()
@run_config_option
@click.option("--unused", is_flag=True, required=True, help="Entries that no run refers to.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--forget",
    multiple=True,
    metavar="FOLDER",
    help="A working folder whose runs are no longer needed.",
)
@more_config_argument
def clean(
    config: tuple[str, ...], unused: bool, yes: bool, forget: tuple[str, ...], more: tuple[str, ...]
) -> None:
    """Remove entries from the cache that no run needs.

    Entries of the current settings, of the last plan of every working folder that shares the cache,
    and of the last ten minutes are kept. Shows the size and asks first. --config takes several
    KEY=VALUE, and --configfile several files, as in Snakemake.
    """
    from pvio.cli.clean import SECONDS_OF_GRACE, find_unused, remove
    from pvio.pipeline.planning.registry import forget_runs

    settings = settings_of_run(config, more)
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
    """Describe VIDEOS: frames, times, size, codec, keyframes.

    Of a folder, all videos that a run would find there.
    """
    from pvio.cli.info import describe_video, videos_at

    failed = False
    for path in itertools.chain.from_iterable(map(videos_at, videos)):
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

    if not diagnose(click.echo):
        raise SystemExit(1)
