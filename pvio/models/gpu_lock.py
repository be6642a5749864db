"""Choose a CUDA device for a job: one that no other job of this host holds, if there is one.

A job holds a device by a lock on a file for as long as its process lives, and what that forked. The
kernel gives the lock up, however the process ends.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pvio.concurrency.lock_files import open_own, own_folder

logger = logging.getLogger(__name__)


def gpu_lock_dir() -> Path:
    """The folder of the lock files of this user's jobs on this host.

    Always in /tmp, and not in TMPDIR, which Slurm and Snakemake may set for each job. Of the other
    folders in memory or on a local disk, XDG_RUNTIME_DIR is not there in batch jobs, and systemd
    may clear both it and /dev/shm when the user logs out, while jobs continue. If jobs have a
    private /tmp, their scheduler also assigns their devices.
    """
    return Path(f"/tmp/pvio-gpus-{os.getuid()}")


def acquire_gpu(identities: Sequence[str], folder: Path) -> int:
    """Take a device, until this process ends.

    Each device has slots, 0, 1, 2 and so on. The first slot that is free is taken, slots 0 of all
    devices first, so that jobs spread over the devices, also when there are more jobs. This never
    waits.

    Args:
        identities: of the devices that this process sees: the same for all processes, whatever
            the devices' numbers, and fit for a file name. At least one.
        folder: of the lock files, see `gpu_lock_dir`; made when it is not there.

    Returns:
        The position in `identities`; 0, with a warning, when the folder cannot be used.
    """
    try:
        own_folder(folder)
        for slot in itertools.count():
            for number, identity in enumerate(identities):
                if _lock(folder / f"gpu-{identity}-{slot}.lock"):
                    shared = f", which {slot} other job(s) hold" if slot else ""
                    logger.info("takes CUDA device %d (%s)%s", number, identity, shared)
                    return number
    except OSError as error:
        logger.warning("takes CUDA device 0, without knowing of other jobs (%s)", error)
    return 0


def _lock(path: Path) -> bool:
    """Lock a file, if no other process has. The descriptor stays open, but is not inherited."""
    descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        os.close(descriptor)
        raise
    return True
