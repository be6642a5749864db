"""The list of products in a results folder, and products that are kept or made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pvio.errors import PvioError
from pvio.layout import PRODUCTS_FILE


def read_products(results: Path) -> dict[str, dict[str, Any]]:
    """What the last run has written to a results folder: facts on every product, by name."""
    try:
        products = json.loads((results / PRODUCTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(products, dict):
        return {}
    return {name: facts for name, facts in products.items() if isinstance(facts, dict)}


def require_products(results: Path) -> dict[str, dict[str, object]]:
    try:
        return json.loads((results / PRODUCTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PvioError(f"{results} holds no results of a finished run: {error}") from error
