"""The store of finished work: one file per entry, found by key, committed by a rename.

An entry is its payload, followed by a footer: a JSON object with facts about the payload, its
digest among them, then a digest of this object, its length and a magic number. Both digests are
verified on reading. An entry is written under a temporary name, flushed to disk and renamed, so
that a file with an entry's name is always whole, also when many jobs write the same key at once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import re
import shutil
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from pvio.errors import StoreError, on_disk_of
from pvio.text import json_text

Item = TypeVar("Item")
Result = TypeVar("Result")
Kind = Literal["index", "predictions", "video"]
# For looking up many entries; more than cores, to hide the latency of a network. One thread does
# some of them at once: to hand over a task takes as long as a lookup on a local disk.
LOOKUP_THREADS, _LOOKUPS = 8, 64
_DIGEST_SIZE = 16
_END = struct.Struct(f"<{_DIGEST_SIZE}sQ8s")
_MAGIC = b"pvio\x00\x02\r\n"
_BLOCK = 1 << 20
# What replacing() calls its files.
_TEMPORARY = re.compile(r"\.(?P<here>\w+)-(?P<pid>\d+)-[0-9a-f]{12}\.tmp")
# For an entry that another host has written.
_SECONDS_TO_APPEAR, _GLANCE = 4.0, 0.5
_SECONDS_UNTIL_GIVEN_UP = 24 * 3600.0


def make_key(**facts: Any) -> str:
    """A key from everything the entry depends on (JSON values)."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def look_up(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`function` of every item, in threads, for what waits for the file system."""

    def of(part: Sequence[Item]) -> list[Result]:
        return [function(item) for item in part]

    parts = [items[i : i + _LOOKUPS] for i in range(0, len(items), _LOOKUPS)]
    with ThreadPoolExecutor(LOOKUP_THREADS) as pool:
        return [result for part in pool.map(of, parts) for result in part]


class Store:
    """Entries below a folder that many jobs and hosts may share.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = Path(root)
        self._waited = 0.0

    def path(self, kind: Kind, key: str) -> Path:
        return self.root / kind / key[:2] / key

    def has(self, kind: Kind, key: str) -> bool:
        return self.path(kind, key).is_file()

    def comes(self, kind: Kind, key: str) -> bool:
        """Whether an entry is there that a job on another host committed.

        Network file systems may show a host for a while that a file is absent, which it has looked
        for before. All waits for that together take a store some seconds.
        """
        path = self.path(kind, key)
        while not path.is_file():
            if self._waited >= _SECONDS_TO_APPEAR:
                return False
            with contextlib.suppress(OSError):
                os.listdir(path.parent)  # lets the client ask the server again
            self._waited += _GLANCE
            time.sleep(_GLANCE)
        return True

    def holds(self, kind: Kind) -> bool:
        """Whether there may be entries of a kind."""
        return (self.root / kind).is_dir()

    def info(self, kind: Kind, key: str) -> dict[str, Any]:
        """The facts in the footer, the payload's `digest` among them, without reading the payload.

        Raises:
            StoreError: when the entry is absent or its footer is damaged.
        """
        with self._opened(kind, key) as file:
            return self._footer(file, kind, key)[0]

    def read(self, kind: Kind, key: str) -> tuple[bytes, dict[str, Any]]:
        """Payload and facts.

        Raises:
            StoreError: when the entry is absent, or payload and digest disagree.
        """
        with self._opened(kind, key) as file:
            info, size = self._footer(file, kind, key)
            file.seek(0)
            payload = file.read(size)
        if _digest(payload).hexdigest() != info["digest"]:
            raise StoreError(f"{self.path(kind, key)} is damaged: its digest does not match")
        return payload, info

    def discard(self, kind: Kind, key: str) -> None:
        """Remove an entry, e.g. a damaged one, so that it is computed again."""
        self.path(kind, key).unlink(missing_ok=True)

    def write(
        self, kind: Kind, key: str, payload: bytes | memoryview, info: dict[str, Any]
    ) -> None:
        """Commit an entry whose payload is in memory."""
        with self._committed(kind, key) as file:
            file.write(payload)
            file.write(_footer(info, _digest(payload)))

    @contextlib.contextmanager
    def writing(self, kind: Kind, key: str, info: dict[str, Any]) -> Iterator[BinaryIO]:
        """A file to write the payload to; committed when the block ends without an exception.

        `info` is stored as it is at the end of the block.
        """
        with self._committed(kind, key) as file:
            yield file
            file.seek(0)
            digest = _digest(b"")
            while block := file.read(_BLOCK):
                digest.update(block)
            file.seek(0, io.SEEK_END)
            file.write(_footer(info, digest))

    def prepare(self) -> None:
        """Make the folder and see whether it can be written to, before work is lost.

        Raises:
            NotWritable: when it cannot.
        """
        with on_disk_of(self.root):
            self.temporaries.mkdir(parents=True, exist_ok=True)
            if not os.access(self.temporaries, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    @property
    def temporaries(self) -> Path:
        """Folder of what is being written."""
        return self.root / "tmp"

    @contextlib.contextmanager
    def _committed(self, kind: Kind, key: str) -> Iterator[BinaryIO]:
        path = self.path(kind, key)
        with replacing(path, self.temporaries) as temporary, open(temporary, "w+b") as file:
            yield file
            file.flush()
            if kind != "index":  # quickly built again, should a power cut take it
                os.fsync(file.fileno())

    def _opened(self, kind: Kind, key: str) -> BinaryIO:
        try:
            return open(self.path(kind, key), "rb")
        except OSError as error:
            raise StoreError(f"no entry {self.path(kind, key)}: {error}") from error

    def _footer(self, file: BinaryIO, kind: Kind, key: str) -> tuple[dict[str, Any], int]:
        try:
            end = file.seek(-_END.size, io.SEEK_END)
            digest, length, magic = _END.unpack(file.read(_END.size))
            if magic != _MAGIC or length > end:
                raise ValueError("no footer")
            file.seek(end - length)
            text = file.read(length)
            if _digest(text).digest() != digest:
                raise ValueError("the digest of its footer does not match")
            return json.loads(text), end - length
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path(kind, key)} is damaged: {error}") from error


def _footer(info: dict[str, Any], digest: Any) -> bytes:
    text = json.dumps({**info, "digest": digest.hexdigest()}).encode()
    return text + _END.pack(_digest(text).digest(), len(text), _MAGIC)


def _digest(data: bytes | memoryview) -> Any:
    return hashlib.blake2b(data, digest_size=_DIGEST_SIZE)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextlib.contextmanager
def replacing(
    final: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None
) -> Iterator[Path]:
    """A temporary path, renamed to `final` when the block ends without an exception.

    Args:
        final: path of the file.
        folder: of the temporary file, on the same file system; that of `final` when None.

    Raises:
        NotWritable: when one of the folders is read-only.
    """
    final = Path(final)
    folder = final.parent if folder is None else Path(folder)
    for each in {final.parent, folder}:
        if not each.is_dir():  # a server need not be asked to make what its client knows of
            with on_disk_of(each.parent):
                each.mkdir(parents=True, exist_ok=True)
    # The ending stays last: encoders choose the container by it.
    temporary = folder / f"{temporary_name()}{final.suffix}"
    try:
        with on_disk_of(folder):
            yield temporary
        with on_disk_of(final.parent):
            os.replace(temporary, final)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def temporary_name(prefix: str = "") -> str:
    """A name that tells by whom it is used, see `remove_leftovers`."""
    return f"{prefix}.{_here()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.tmp"


def remove_leftovers(folder: str | os.PathLike[str], pid: int | None = None) -> int:
    """Remove temporary files and folders whose writers are gone.

    Those of other hosts, whose processes are not seen from here, are removed after a day.

    Args:
        folder: of the temporary files.
        pid: of a process of this host that has ended; None for all that have.

    Returns:
        How many there were.
    """
    n = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.search(entry.name)
            if match is None:
                continue
            writer = int(match["pid"])
            if match["here"] == _here():
                gone = writer == pid if pid is not None else not _is_running(writer)
            else:
                gone = pid is None and _is_old(entry)
            if gone:
                n += 1
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
    return n


@functools.cache
def _here() -> str:
    """Where process numbers mean the same: a host since it was started, and a namespace of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        namespace = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        boot, namespace = re.sub(r"\W", "_", socket.gethostname()), "0"
    return f"{boot}_{namespace}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _is_old(entry: os.DirEntry[str]) -> bool:
    try:
        return time.time() - entry.stat().st_mtime > _SECONDS_UNTIL_GIVEN_UP
    except OSError:
        return False


def write_text(final: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that it appears whole or not at all.

    In UTF-8; of a character that is none, as in a name of other bytes, its escape is written.
    """
    with replacing(final) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(final: str | os.PathLike[str], data: Any) -> None:
    """Write JSON so that it appears whole or not at all; dataclasses become objects.

    Names that are no UTF-8 (`os.fsdecode`) are read again as they are.
    """
    write_text(final, json_text(data, default=vars) + "\n")
