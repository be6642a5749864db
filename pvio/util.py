"""Load balancing, under the name parallel-video-io 0.1.3 gave it."""

from __future__ import annotations

from collections.abc import Hashable

from pvio.pipeline.planning.segments import lpt


def balance_load_lpt(tasks: dict[Hashable, int], n_workers: int) -> list[list[Hashable]]:
    """Longest processing time first: each task, longest first, to the least loaded worker.

    Args:
        tasks: the (estimated) duration of every task, >= 0, in any unit.
        n_workers: number of workers, at least 1.

    Returns:
        The tasks of every worker: always `n_workers` lists, empty ones included. Ties between
        workers go to the lowest number, ties between tasks to the one named first.

    Raises:
        ValueError: when `n_workers` is not positive.
    """
    return lpt(tasks, n_workers)
