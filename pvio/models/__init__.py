"""Models: loading, the contract with the engine, and the built-in open-field tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pvio.models.open_field import OpenFieldTracker

__all__ = ["OpenFieldTracker"]


def __getattr__(name: str) -> Any:
    # Loaded when used: the workflow looks at this package without importing torch.
    if name == "OpenFieldTracker":
        from pvio.models.open_field import OpenFieldTracker

        return OpenFieldTracker
    raise AttributeError(f"module 'pvio.models' has no attribute {name!r}")
