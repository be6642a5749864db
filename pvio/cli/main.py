"""The `pvio` command: the stages of the workflow, and tools to look at videos and set-ups."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import pvio
from pvio.config import Settings, load_settings
from pvio.errors import PvioError

if TYPE_CHECKING:
    from pvio.manifest import Receipt

config_option = click.option(
    "--config",
    "config",
    default="config.yaml",
    show_default=True,
    metavar="FILE_OR_TEXT",
    help="A config.yaml, or its content as YAML or JSON text that starts with '{'.",
)
plan_option = click.option(
    "--plan", "plan_path", required=True, type=click.Path(), help="What `pvio plan` wrote."
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
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pvio.__version__, prog_name="pvio")
@click.option("-q", "--quiet", is_flag=True, help="Report warnings and errors only.")
def main(quiet: bool) -> None:
    """Run a PyTorch model over every frame of many videos.

    The workflow (`snakemake --cores all`) calls the stages probe, plan, infer, encode, assemble
    and report in this order; each can be called by hand as well. `pvio info` looks at a video,
    `pvio doctor` at the installation.
    """
    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )


@main.command()
@config_option
@out_option
@threads_option
def probe(config: str, out: Path, threads: int) -> None:
    """Find the videos of the collection and index their frames.

    Indexes are cached by path, size and modification time: videos seen before are not opened.
    A video that cannot be read is listed with the reason; the others go on.
    """
    from pvio.manifest import write_table
    from pvio.stages.probe import probe as run

    rows = run(_settings(config), threads)
    unreadable = [row for row in rows if row.status != "ok"]
    for row in unreadable:
        logging.warning("unreadable: %s: %s", row.path, row.reason)
    frames = sum(row.n_frames for row in rows)
    logging.info("%d videos, %d frames, %d unreadable", len(rows), frames, len(unreadable))
    write_table(out, rows)


@main.command()
@config_option
@click.option("--probe", "probe_path", required=True, help="What `pvio probe` wrote.")
@click.option("--shards", required=True, type=click.IntRange(1), help="Infer and encode jobs.")
@out_option
def plan(config: str, probe_path: str, shards: int, out: Path) -> None:
    """Cut videos into segments and spread them over shards, longest processing time first."""
    from pvio.manifest import read_probe, write_table
    from pvio.stages.plan import make_plan

    manifest = make_plan(read_probe(probe_path), _settings(config), shards)
    write_table(out, manifest)


@main.command()
@config_option
@plan_option
@click.option("--shard", required=True, metavar="K-of-N", help="Which shard of the plan.")
@out_option
@threads_option
def infer(config: str, plan_path: str, shard: str, out: Path, threads: int) -> None:
    """Run the model over the segments of one shard.

    Finished segments are kept in the cache and never computed twice. A segment that fails is
    logged with its traceback, the others go on, and the command ends with exit code 1.
    """
    from pvio.manifest import read_plan, write_table
    from pvio.stages.infer import infer as run

    settings = _settings(config)
    _provide_ffmpeg(settings)
    write_table(out, run(read_plan(plan_path), settings, shard, threads))


@main.command()
@config_option
@plan_option
@click.option("--shard", required=True, metavar="K-of-N", help="Which shard of the plan.")
@out_option
def encode(config: str, plan_path: str, shard: str, out: Path) -> None:
    """Encode the segments of one shard again, with the model's drawing on them."""
    from pvio.manifest import read_plan, write_table
    from pvio.stages.encode import encode as run

    write_table(out, run(read_plan(plan_path), _settings(config), shard))


@main.command()
@config_option
@plan_option
@click.option("--results", default="results", show_default=True, help="Folder of the products.")
@threads_option
@click.argument("receipts", nargs=-1, type=click.Path(exists=True))
def assemble(
    config: str, plan_path: str, results: str, threads: int, receipts: tuple[str, ...]
) -> None:
    """Join finished segments into predictions, videos and a summary.

    RECEIPTS are the files, or folders of files, that the infer and encode jobs wrote.
    """
    from pvio.manifest import read_plan
    from pvio.stages.assemble import assemble as run

    rows = run(read_plan(plan_path), _settings(config), _receipts(receipts), results, threads)
    for row in rows:
        if row.status != "ok":
            logging.warning("%s: %s: %s", row.status, row.path, row.reason)
    logging.info("%d videos assembled in %s", len(rows), results)


@main.command()
@plan_option
@click.option("--summary", required=True, type=click.Path(), help="results/summary.tsv")
@out_option
@click.argument("receipts", nargs=-1, type=click.Path(exists=True))
def report(plan_path: str, summary: str, out: Path, receipts: tuple[str, ...]) -> None:
    """Write the report as one HTML page. RECEIPTS: as for `pvio assemble`."""
    from pvio.manifest import read_plan
    from pvio.report import render_report
    from pvio.store import write_text

    found = _receipts(receipts)
    infers = [receipt for receipt in found if receipt.stage == "infer"]
    encodes = [receipt for receipt in found if receipt.stage == "encode"]
    text = Path(summary).read_text(encoding="utf-8")
    write_text(out, render_report(text, read_plan(plan_path), infers, encodes))


@main.command()
@click.argument("summary", default="results/summary.tsv", type=click.Path(exists=True))
def check(summary: str) -> None:
    """Fail when a video of SUMMARY is damaged or unreadable, naming each (`on_damaged: fail`)."""
    from pvio.stages.check import check_summary

    check_summary(Path(summary).read_text(encoding="utf-8"))
    logging.info("no video is damaged or unreadable")


@main.command()
@click.option("--results", default="results", show_default=True, help="Folder of the products.")
def verify(results: str) -> None:
    """Check finished results again: counts, time stamps, statuses, digests.

    Says which rows are not ok; ends with exit code 1 when a result is not as it must be.
    """
    from pvio.stages.verify import verify as run

    faults, remarks = run(Path(results))
    for line in remarks:
        click.echo(f"not ok  {line}")
    for line in faults:
        click.echo(f"FAULT   {line}")
    if faults:
        raise PvioError(
            f"{len(faults)} fault(s) in {results}; remove the files concerned and run the workflow "
            "with --forcerun assemble to write them again from the cache"
        )
    click.echo(f"{results} is as it was written")


@main.command()
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True))
def info(videos: tuple[str, ...]) -> None:
    """Show what pvio knows of VIDEOS: frames, times, size, codec, keyframes."""
    from pvio.cli.info import describe_video

    failed = False
    for path in videos:
        try:
            click.echo(describe_video(path))
        except PvioError as error:
            click.echo(f"Error: {error}", err=True)
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


def _receipts(paths: tuple[str, ...]) -> list[Receipt]:
    from pvio.manifest import read_receipt

    files: list[Path] = []
    for path in map(Path, paths):
        files += sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [read_receipt(file) for file in files]


def _provide_ffmpeg(settings: Settings) -> None:
    """Start this process again with FFmpeg's libraries on its path, if torchcodec needs them."""
    if settings.resolved_decoder != "torchcodec":
        return
    from pvio.media.ffmpeg_libraries import environment_for_torchcodec

    environment = environment_for_torchcodec()
    if environment is not None:
        os.execve(sys.executable, [sys.executable, "-m", "pvio", *sys.argv[1:]], environment)
