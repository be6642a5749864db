"""The `pvio` command."""

from pvio.cli.main import main

__all__ = ["main"]
