"""The order of the tests: the long ones first, so that no process works alone at the end."""

from __future__ import annotations

import pytest

# The longest first. Other tests follow in the order of their files.
LONG = (
    "workflow/test_slurm.py",
    "workflow/test_dry_runs.py",
    "workflow/test_kills.py",
    "workflow/test_changes.py",
    "workflow/test_faults.py",
    "workflow/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long tests first."""

    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((n for n, part in enumerate(LONG) if f"tests/{part}" in path), len(LONG))

    items.sort(key=place)
