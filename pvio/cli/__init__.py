"""The `pvio` command: one function per subcommand, and their helpers.

The stages of the workflow are in `pvio.pipeline.stages`.
"""

from pvio.cli.main import main

__all__ = ["main"]
