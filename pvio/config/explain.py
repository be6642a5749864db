"""Readable errors of the settings: the key, the value, and the allowed values."""

from __future__ import annotations

import datetime
import difflib
import types
import typing
from typing import Any

from pvio.config.section import Section


def explain(error: Any, settings: type[Section]) -> str:
    """A line with the key, the value and the allowed values.

    Args:
        error: one of pydantic's `ValidationError.errors()`.
        settings: the model that was validated.
    """
    path = [part for part in error["loc"] if isinstance(part, (str, int))]
    section, keys = _section_at(path, settings)
    key = ".".join(str(part) for part in keys) or "config"
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        known = sorted(section.model_fields)
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "known keys: " + ", ".join(known)
        return f"{key}: unknown key; {hint}"
    if kind == "model_type":
        example = next(iter(section.model_fields))
        return f"{key}: expected a section of keys such as {example}, got {value!r}"
    field = section.model_fields.get(str(keys[-1])) if keys else None
    message: str = error["msg"].removeprefix("Value error, ")
    if not keys:  # the message concerns several keys, and names them
        return message
    is_shown = isinstance(value, dict) and (not field or kind == "value_error")
    shown = "" if is_shown else f", got {_shown(value)}"
    if kind == "string_type" and isinstance(value, (int, float, datetime.date)):
        shown += "; text that looks like something else needs quotes"
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{key}: {message[0].lower() + message[1:]}{shown}{meaning}"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # Python does not print numbers of so many digits
        return "a number of thousands of digits"


def _section_at(path: list[Any], settings: type[Section]) -> tuple[type[Section], list[Any]]:
    """The section that owns the faulty key, and the key without pydantic's branch names."""
    section = settings
    keys: list[Any] = []
    for part in path:
        field = section.model_fields.get(str(part))
        keys.append(part)
        if field is None:
            break
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            section = annotation
            continue
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            break
    return section, keys
