"""Options that several commands share, and the settings that they select.

Settings are imported when they are read: some jobs need none, and it takes half of their time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pvio.errors import PvioError
from pvio.layout import RESULTS_FOLDER

if TYPE_CHECKING:
    from pvio.config.settings import Settings

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
    help="Settings given to Snakemake besides config.yaml: a file or KEY=VALUE; may be repeated. "
    "Or all settings as YAML or JSON text that starts with '{'.",
)
more_config_argument = click.argument("more", nargs=-1, metavar="[KEY=VALUE]...")
plan_option = click.option(
    "--plan",
    "plan_path",
    required=True,
    type=click.Path(),
    help="Output of `pvio plan`, or the plan of the shard.",
)
shard_option = click.option(
    "--shard", required=True, metavar="K-of-N", help="Which shard of the plan."
)
out_option = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="File to write."
)
results_option = click.option(
    "--results", help="Folder of the products.  [default: the setting `results`]"
)
threads_option = click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="Cores to use."
)


def configured_results() -> str:
    """The setting `results` of this folder; its default where there are no valid settings."""
    try:
        return settings_of_run((), ()).results
    except PvioError:
        return RESULTS_FOLDER


def settings_of_run(config: tuple[str, ...], more: tuple[str, ...]) -> Settings:
    """The settings that Snakemake uses in this folder when given the same files or keys.

    Args:
        config: the value of each `--config` or `--configfile`.
        more: further values, which Snakemake accepts there too.

    Raises:
        click.UsageError: for values without `--config`.
        PvioError: when there are no settings: no value and no file of the working folder.
        ConfigError: when the settings are not allowed.
    """
    if more and not config:
        raise click.UsageError(
            f"Got unexpected extra argument ({more[0]}); settings are given after --config"
        )
    if not config and not Path(CONFIG_FILE).exists():
        raise PvioError(
            f"there is no {CONFIG_FILE} here: give --config FILE, or --config '{{...}}' or "
            "--config KEY=VALUE with the settings that the run was given"
        )
    from pvio.config.load import load_merged

    return load_merged(CONFIG_FILE, config + more)


def settings_of_job(config: str) -> Settings:
    """The settings in the value of `config_option`.

    Raises:
        ConfigError: when they cannot be parsed, or are not allowed.
    """
    from pvio.config.load import load_settings

    return load_settings(config)
