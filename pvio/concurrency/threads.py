"""Limits on the number of threads of a job.

In addition, decoding and conversion use one thread each, and so does encoding with
`output.video: frames`. Threads that look up cache entries mostly wait for the disk.
"""

from __future__ import annotations

import os

# OpenMP, for PyTorch and pyarrow; the linear algebra libraries of NumPy. Snakemake also sets them,
# to the threads of the rule.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def limit_libraries(threads: int) -> None:
    """Keep the libraries' pools to a number of threads, here and in processes started from here.

    They read the variables when they are loaded, so call this before the first import of NumPy.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, str(threads)))


def limit_torch(threads: int) -> None:
    """Keep PyTorch to a number of threads; its other pool, for parallel operators, to one."""
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:  # it can be set once in a process
        torch.set_num_interop_threads(1)
