"""Rows of predictions: collected, stored as Parquet, and read again.

What the model computes is checked in `pvio.inference`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pvio.predictions.parquet import Predictions, read_predictions

__all__ = ["Predictions", "read_predictions"]


def __getattr__(name: str) -> Any:
    # Loaded when used: pyarrow takes a while to import.
    if name in __all__:
        from pvio.predictions import parquet

        return getattr(parquet, name)
    raise AttributeError(f"module 'pvio.predictions' has no attribute {name!r}")
