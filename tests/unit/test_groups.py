"""Tests that share a finished run are given to one process of pytest-xdist."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("groups")
def test_groups_of_tests_are_kept_together(request: pytest.FixtureRequest):
    """Processes share out tests by name; those of a group have its name at their end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@groups")
