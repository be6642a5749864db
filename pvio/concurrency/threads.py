"""A job computes with the threads that it was given.

Beside them run, one thread each, what decodes and converts, and with `output.video: frames` what
encodes. Threads that look entries up wait for the disk.
"""

from __future__ import annotations

import os

# OpenMP, for PyTorch and also pyarrow; the linear algebra that NumPy may be built with. Snakemake
# sets them, too, to the threads of the rule.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def limit_libraries(threads: int) -> None:
    """Keep the libraries' pools to a number of threads, here and in processes started from here.

    They read it when they are loaded, so this comes before the first import of NumPy.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, str(threads)))


def limit_torch(threads: int) -> None:
    """Keep PyTorch to a number of threads; its other pool, for operators side by side, to one."""
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:  # it can be set once in a process
        torch.set_num_interop_threads(1)
