"""Read settings from files, text and arguments of the command line, and write them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pvio.config.renamed import RENAMED, with_current_names
from pvio.config.section import Section
from pvio.config.settings import Settings, parse_settings
from pvio.config.text import (
    differ_in_types_only,
    is_null,
    overlay,
    read_argument,
    read_file,
    read_text,
    write_text,
)
from pvio.errors import ConfigError

# Settings that are text, whatever they look like.
_TEXT_KEYS = ("videos", "exclude", "cache", "staging_dir", "stage", "on_damaged", "decoder")
# Settings that may be mappings or lists.
_CONTAINERS = ("videos", "exclude", "model", "output")


def load_settings(text_or_path: str) -> Settings:
    """Read settings from a YAML file, or from YAML/JSON text that starts with '{'.

    Raises:
        ConfigError: when they cannot be read, or are not allowed.
    """
    data, source = _read(text_or_path)
    return parse_settings(data, source=source)


def load_merged(base: str, given: Iterable[str]) -> Settings:
    """Read settings as Snakemake does: `base`, where it exists, and above it what was given.

    Args:
        base: a file; without a key of pvio's it is another workflow's, and not read.
        given: files, or `key=value`, which count more than files. Text that starts with '{'
            contains all settings, so that `base` is not read.

    Raises:
        ConfigError: see `load_settings`.
    """
    given = list(given)
    data: dict[str, Any] = {}
    sources: list[str] = []
    if os.path.exists(base) and not any(text.lstrip().startswith("{") for text in given):
        found = _read(base)[0]
        if not found.keys().isdisjoint({*Settings.model_fields, *RENAMED}) or not given:
            data, sources = found, [base]
    arguments = []
    for text in given:
        if re.match(r"[a-zA-Z_]\w*=", text) and not os.path.exists(text):
            arguments.append(text)
        elif text != base:
            above, source = _read(text)
            data = overlay(data, above)
            sources.append(source)
    for text in arguments:
        key, _, value = text.partition("=")
        quoted = value[:1] in ("'", '"')
        as_text = key in _TEXT_KEYS and value[:1] not in ("[", "{") and not is_null(value)
        data = overlay(data, {key: value if as_text and not quoted else read_argument(value)})
        sources.append(text)
    return parse_settings(data, source=" with ".join(sources) or "config")


def _read(text_or_path: str) -> tuple[dict[str, Any], str]:
    """The content of a file or text, and what errors call it."""
    if text_or_path.lstrip().startswith("{"):
        source = "the configuration given"
        data = read_text(text_or_path, source)
    else:
        source = text_or_path
        data = read_file(text_or_path)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source} must contain 'key: value' lines, not a {type(data).__name__}")
    return data, source


def load_stored(text: str) -> tuple[Settings, list[str]]:
    """Read settings that `dump_settings` wrote, maybe in another version of pvio.

    Returns:
        The settings, and the keys that this version does not know, which are left out.

    Raises:
        ConfigError: when the rest is not allowed.
    """
    data, source = _read(text)
    known, unknown = _known_of(Settings, with_current_names(data)[0])
    return parse_settings(known, source=source), unknown


def _known_of(section: type[Section], data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    known: dict[str, Any] = {}
    unknown = []
    for key, value in data.items():
        field = section.model_fields.get(key)
        kind = field.annotation if field else None
        if field is None:
            unknown.append(key)
        elif isinstance(kind, type) and issubclass(kind, Section) and isinstance(value, dict):
            known[key], inner = _known_of(kind, value)
            unknown += [f"{key}.{name}" for name in inner]
        else:
            known[key] = value
    return known, unknown


def dump_settings(settings: Settings, *keys: str) -> str:
    """Settings that differ from the defaults, as text that `load_settings` reads.

    Args:
        settings: of a run.
        keys: which of them; `section.key` picks one key of a section.
    """
    include: dict[str, Any] = {}
    for key in keys:
        section, _, inner = key.partition(".")
        include[section] = {inner} if inner else True
    chosen = settings.model_dump(include=include or None, exclude_defaults=True)
    return write_text({key: value for key, value in chosen.items() if value != {}})


def with_types(
    config: Mapping[str, Any],
    arguments: Iterable[str],
    files: Iterable[str | os.PathLike[str]] = (),
) -> dict[str, Any]:
    """The configuration with the types that files and command line wrote.

    Snakemake reads files as YAML 1.1 does, `2024_01` as a number and `1e-5` as text, and the inside
    of `--config 'output={"crf": 20}'` as text; here all of it is read by `read_text`.

    Args:
        config: merged by Snakemake; not changed.
        arguments: the `key=value` arguments of `--config`, on the command line or of a profile.
        files: that Snakemake has merged, in this order. Where it was given something else instead,
            as by a `module` statement, that counts.

    Raises:
        ConfigError: when a file or an argument cannot be parsed.
    """
    merged: Any = {}
    for path in files:
        merged = overlay(merged, read_file(os.fspath(path)) or {})
    by_files, by_config = merged, dict(config)
    for argument in arguments:
        key, _, text = argument.partition("=")
        if key in config:
            value = _typed(key, text, config[key])
            by_files = overlay(by_files, {key: value})
            by_config = overlay(by_config, {key: value})
    return by_files if differ_in_types_only(by_files, by_config) else by_config


def _typed(key: str, text: str, value: Any) -> Any:
    """The value of an argument of `--config`, which Snakemake read as `value`."""
    bare = text.strip("'\"")
    if is_null(text):
        return None
    if isinstance(value, (Mapping, list)):
        return read_argument(bare)
    if key in _CONTAINERS and bare[:1] in ("{", "["):  # Snakemake could not read it
        with contextlib.suppress(ConfigError):
            return read_argument(bare)
    # A number may have been `2024_01` before a profile was read: an error is better than a guess.
    return bare if key in _TEXT_KEYS and str(value) != text else value
