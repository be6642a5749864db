"""Free memory, and limits of it."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import psutil

# A process gets so much even where less is free: it may be made free.
_LEAST_BYTES = 512 << 20


def free_memory() -> int:
    """Bytes that this process may still take, by the system and by its control group.

    Page cache counts as free. Of control groups both versions are known; see the kernel's
    Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    free = [int(psutil.virtual_memory().available)]
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                root = Path("/sys/fs/cgroup")
                names = ("memory.max", "memory.current")
            elif "memory" in controllers.split(","):
                root = Path("/sys/fs/cgroup/memory")
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            else:
                continue
            folder = root / path.lstrip("/")
            while folder != root.parent:
                free += _free_in(folder, *names)
                folder = folder.parent
    return max(min(free), _LEAST_BYTES)


def limit_memory(n_bytes: int) -> None:
    """Let this process take so many bytes more; a call that needs more fails with `MemoryError`.

    Where the system has no such limit nothing happens.
    """
    with contextlib.suppress(OSError, ValueError):
        used = 0
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                used = int(line.split()[1]) << 10
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = used + n_bytes
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _free_in(folder: Path, limit_name: str, usage_name: str) -> list[int]:
    """Bytes that are free in a control group; none where it has no limit."""
    with contextlib.suppress(OSError, ValueError):
        limit = int((folder / limit_name).read_text())
        usage = int((folder / usage_name).read_text())
        caches = ("inactive_file", "active_file")
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in caches:
                usage -= int(value)
        return [max(0, limit - usage)]
    return []
