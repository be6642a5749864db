"""`pvio run`: Snakemake, with the workflow that comes with pvio, on the videos of a command line.

The only module of pvio that imports Snakemake, and only once it is called.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import click

from pvio.cache.atomic import write_json
from pvio.collection.folders import kind_of
from pvio.collection.image_names import asks_for_images
from pvio.collection.sources import VIDEO_SUFFIXES
from pvio.errors import PvioError
from pvio.layout import named_videos_file
from pvio.text import printable

# Where the workflow looks for settings, see workflow/Snakefile.
_CONFIG_FILES = ("config.yaml", "config/config.yaml")
# Options with which Snakemake runs no jobs, by the names that it gives their values.
_WITHOUT_JOBS = (
    *("archive", "cleanup_metadata", "cleanup_shadow", "conda_cleanup_envs"),
    *("conda_create_envs_only", "container_cleanup_images", "containerize", "d3dag", "dag"),
    *("delete_all_output", "delete_temp_output", "deploy_sources", "detailed_summary", "dryrun"),
    *("filegraph", "generate_unit_tests", "lint", "list_changes", "list_conda_envs"),
    *("list_input_changes", "list_params_changes", "list_rules", "list_target_rules"),
    *("list_untracked", "print_compilation", "rulegraph", "summary", "touch", "unlock"),
)
_KEY_AND_VALUE = re.compile(r"[a-zA-Z_]\w*=")


def packaged(name: str, source: str) -> Path:
    """The path of a file that comes with pvio but has its place outside of the package in a clone.

    Args:
        name: of the file in an installed package, relative to it.
        source: of the same file in a clone, relative to its root.

    Raises:
        PvioError: when it is at neither place.
    """
    package = Path(__file__).parents[1]
    for path in (package / name, package.parent / source):
        if path.is_file():
            return path
    raise PvioError(
        f"{source} did not come with this installation of pvio, {package}: install the wheel, or a "
        "clone with `pip install -e .`"
    )


def snakefile() -> Path:
    """The path of pvio's workflow: in the installed package, or in the clone it is used from.

    Raises:
        PvioError: when the workflow is missing.
    """
    return packaged("_workflow/Snakefile", "workflow/Snakefile")


def run_workflow(arguments: Sequence[str]) -> bool:
    """Run Snakemake on pvio's workflow, in this process.

    Args:
        arguments: videos, which take the place of the setting `videos`, and options of Snakemake.

    Returns:
        Whether Snakemake succeeded.

    Raises:
        click.UsageError: for an option that Snakemake does not have, or a video after an option
            that would take it for a value.
        PvioError: when there is no such video, or no video at all.
    """
    from snakemake import cli
    from snakemake.exceptions import print_exception

    try:
        videos, options = split_arguments(arguments, cli.get_argument_parser())
        check_videos(videos)
        parser, args = cli.parse_args(["--snakefile", str(snakefile()), *options])
        set_videos(args, videos)
        if args.cores is None and args.jobs is None and args.executor in (None, "local"):
            args.cores = cli.parse_cores("all")
        return bool(cli.args_to_api(args, parser))
    except (PvioError, click.UsageError):
        raise
    except Exception as error:  # as Snakemake's own command shows them
        print_exception(error)
        return False


class _Argument(str):
    """An argument that can be found again among equal ones."""


def split_arguments(
    arguments: Sequence[str], parser: argparse.ArgumentParser
) -> tuple[list[str], list[str]]:
    """Separate videos from options and their values, using Snakemake's options.

    Args:
        arguments: as typed. What stands after `--` is a video.
        parser: Snakemake's.

    Returns:
        The videos, and the options with their values, both in their order.

    Raises:
        click.UsageError: for an unknown option, or a video after an option that would take it for
            a value.
    """
    given = [_Argument(argument) for argument in arguments]
    end = given.index(_Argument("--")) if "--" in given else len(given)
    head, after_dashes = given[:end], given[end + 1 :]
    _refuse_swallowed_videos(head, parser)
    parser.exit_on_error = False  # its message comes with all of its options
    try:
        args, others = parser.parse_known_args(list(head))
    except argparse.ArgumentError as error:
        raise click.UsageError(printable(error)) from error
    # Arguments that belong to no option come back as the objects that they are: the first ones in a
    # row as targets, others as unknown.
    positions = {id(argument) for argument in (*args.targets, *others)}
    videos = [argument for argument in head if id(argument) in positions]
    options = [argument for argument in head if id(argument) not in positions]
    for name in videos:
        if name.startswith("-"):
            raise click.UsageError(
                f"Snakemake has no option {printable(name)}; a video of this name stands after `--`"
            )
    return [str(video) for video in (*videos, *after_dashes)], [str(option) for option in options]


def _refuse_swallowed_videos(arguments: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuse videos that an option with any number of values would take for values, or write to.

    Raises:
        click.UsageError: naming the first one.
    """
    n_values = {name: action.nargs for action in parser._actions for name in action.option_strings}
    option = ""
    for before, text in itertools.pairwise(("", *arguments)):
        if text.startswith("-"):
            option = text
            continue
        takes = n_values.get(option)
        is_value = takes in ("*", "+") or (takes == "?" and before == option)
        if is_value and _looks_like_video(text):
            raise click.UsageError(
                f"Snakemake takes {printable(text)} for a value of {option}; let videos stand "
                f"first, or after `--`: pvio run {option} ... -- {printable(text)}"
            )


def _looks_like_video(text: str) -> bool:
    if _KEY_AND_VALUE.match(text):
        return False
    return os.path.splitext(text)[1].lower() in VIDEO_SUFFIXES or os.path.isdir(text)


def check_videos(videos: Sequence[str]) -> None:
    """Check that files and folders that were named are there.

    Raises:
        PvioError: naming those that are not.
    """
    absent = [
        video
        for video in videos
        if not (kind_of(video) or glob.has_magic(video) or asks_for_images(video))
    ]
    if absent:
        names = ", ".join(printable(repr(video)) for video in absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise PvioError(f"no such file or folder: {names}{more} (seen from {os.getcwd()})")


def set_videos(args: argparse.Namespace, videos: Sequence[str]) -> None:
    """Let videos take the place of the setting `videos` in what Snakemake was given.

    Args:
        args: of Snakemake, those of profiles included; changed.
        videos: relative to the current folder, which need not be that of the run; none to leave
            the settings as they are.

    Raises:
        PvioError: when neither videos nor any settings are given.
    """
    args.targets = set()
    folder = args.directory or Path()
    if not videos:
        own = Path(args.snakefile) == snakefile()
        found = any((folder / name).exists() for name in _CONFIG_FILES)
        if own and not (args.config or args.configfile or found):
            raise PvioError(
                "no videos: name some, as in `pvio run clips/*.mp4`, or write a config.yaml; "
                "`pvio init` begins one"
            )
        return
    if args.directory:
        videos = [_absolute(video) for video in videos]
    config = [entry for entry in args.config or [] if not entry.startswith("videos=")]
    if args.executor in (None, "local") or not _runs_jobs(args):
        args.config = [*config, f"videos={json.dumps(list(videos))}"]
        return
    # Jobs of a cluster are given what Snakemake is given, on a command line: it would be too long
    # for many videos, and names with quotes would not survive it.
    digest = hashlib.blake2b("\0".join(videos).encode("utf-8", "surrogateescape"), digest_size=6)
    path = (folder / named_videos_file(digest.hexdigest())).resolve()
    write_json(path, {"videos": list(videos)})
    args.config = config or None
    args.configfile = [*(args.configfile or []), path]


def _runs_jobs(args: argparse.Namespace) -> bool:
    """Whether Snakemake will run jobs, and not only look or tidy up."""
    only_reports = args.report and not args.report_after_run
    return not (only_reports or any(getattr(args, name, None) for name in _WITHOUT_JOBS))


def _absolute(video: str) -> str:
    """The path of a video, or a pattern, as seen from any folder."""
    if os.path.isabs(os.path.expanduser(video)):
        return video
    here = os.getcwd()
    return os.path.join(here if kind_of(video) else glob.escape(here), video)
