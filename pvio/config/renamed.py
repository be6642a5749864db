"""Old names of settings, which work for one release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pvio.errors import ConfigError

# Names of version 0.2.0, and the names to use now.
RENAMED = {"stage": "staging_dir"}


def with_current_names(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The configuration with the current names of the settings.

    Args:
        data: a configuration; not changed.

    Returns:
        The configuration, and a warning for each setting that was given under its old name.

    Raises:
        ConfigError: when both names have a value.
    """
    current, warnings = dict(data), []
    for old, name in RENAMED.items():
        if old not in data:
            continue
        value = current.pop(old)
        if current.get(name) is None:  # pvio's own configuration has `null`
            current[name] = value
        elif value is not None:
            raise ConfigError(
                f"{name}: {old} is the old name of this setting, and both are given: "
                f"{old}: {value!r} and {name}: {current[name]!r}; remove {old}"
            )
        warnings.append(f"the setting {old} is now called {name}; rename it in the settings")
    return current, warnings
