"""The `pvio` command: one function per sub-command, and what only they need.

What the sub-commands of the workflow do lives in `pvio.pipeline.stages`.
"""

from pvio.cli.main import main

__all__ = ["main"]
