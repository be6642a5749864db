"""The cache of finished work: one file per entry, found by key, committed by a rename.

An entry is its payload, followed by a footer: a JSON object with metadata of the payload, its
digest among them, then a digest of this object, its length and a magic number. Both digests are
verified on reading. An entry is written under a temporary name, flushed to disk and renamed, so
that a file with an entry's name is always whole, also when many jobs write the same key at once.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from pvio.cache.atomic import atomic_path
from pvio.cache.digest import DIGEST_SIZE, digest_of
from pvio.errors import CacheError, on_disk_of
from pvio.layout import TEMPORARY_FOLDER, Kind

_END = struct.Struct(f"<{DIGEST_SIZE}sQ8s")
_MAGIC = b"pvio\x00\x02\r\n"
_BLOCK = 1 << 20
# A million footers may be looked up; most are shorter, so that each takes a single read.
_TAIL = 2048
# For an entry that another host has written.
_SECONDS_TO_APPEAR, _GLANCE = 4.0, 0.5


class Cache:
    """Entries below a folder that many jobs and hosts may share.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = Path(root)
        self._waited = 0.0

    def path(self, kind: Kind, key: str) -> Path:
        """The file of an entry, whether it exists or not."""
        return self.root / kind / key[:2] / key

    def has(self, kind: Kind, key: str) -> bool:
        """Whether an entry exists; its content is not looked at."""
        return self.path(kind, key).is_file()

    def wait_for(self, kind: Kind, key: str) -> bool:
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

    def has_any(self, kind: Kind) -> bool:
        """Whether there may be entries of a kind."""
        return (self.root / kind).is_dir()

    def metadata(self, kind: Kind, key: str) -> dict[str, Any]:
        """The metadata in the footer, with the payload's `digest`; reads no payload.

        Raises:
            CacheError: when the entry is absent or its footer is damaged.
        """
        with self._opened(kind, key) as file:
            return self._footer(file, kind, key)[0]

    def find(self, kind: Kind, key: str) -> tuple[dict[str, Any], float] | None:
        """The metadata of an entry, and when it was committed; None where there is none.

        Returns:
            The result of `info`, and seconds since 1970.

        Raises:
            CacheError: when its footer is damaged, or it cannot be opened.
        """
        try:
            number = os.open(self.path(kind, key), os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheError(f"no entry {self.path(kind, key)}: {error}") from error
        with open(number, "rb", buffering=0) as file:
            return self._footer(file, kind, key)[0], os.fstat(number).st_mtime

    def read(self, kind: Kind, key: str) -> tuple[bytes, dict[str, Any]]:
        """Payload and metadata.

        Raises:
            CacheError: when the entry is absent, or payload and digest disagree.
        """
        with self._opened(kind, key) as file:
            info, size = self._footer(file, kind, key)
            file.seek(0)
            payload = file.read(size)
        if digest_of(payload).hexdigest() != info["digest"]:
            raise CacheError(f"{self.path(kind, key)} is damaged: its digest does not match")
        return payload, info

    @contextlib.contextmanager
    def open_for_read(self, kind: Kind, key: str) -> Iterator[BinaryIO]:
        """A file with the payload alone, for one that may exceed the memory.

        Raises:
            CacheError: when the entry is absent, or payload and digest disagree.
        """
        with self._opened(kind, key) as file:
            info, size = self._footer(file, kind, key)
            payload = cast(BinaryIO, io.BufferedReader(_Payload(file.fileno(), size), _BLOCK))
            digest = digest_of(b"")
            while block := payload.read(_BLOCK):
                digest.update(block)
            if digest.hexdigest() != info["digest"]:
                raise CacheError(f"{self.path(kind, key)} is damaged: its digest does not match")
            payload.seek(0)
            yield payload

    def remove(self, kind: Kind, key: str) -> None:
        """Remove an entry, e.g. a damaged one, so that it is computed again."""
        self.path(kind, key).unlink(missing_ok=True)

    def write(
        self, kind: Kind, key: str, payload: bytes | memoryview, info: dict[str, Any]
    ) -> None:
        """Commit an entry whose payload is in memory."""
        with self._committed(kind, key) as file:
            file.write(payload)
            file.write(_footer(info, digest_of(payload)))

    @contextlib.contextmanager
    def open_for_write(self, kind: Kind, key: str, info: dict[str, Any]) -> Iterator[BinaryIO]:
        """A file to write the payload to; committed when the block ends without an exception.

        `info` is stored as it is at the end of the block.
        """
        with self._committed(kind, key) as file:
            yield file
            file.seek(0)
            digest = digest_of(b"")
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
        return self.root / TEMPORARY_FOLDER

    @contextlib.contextmanager
    def _committed(self, kind: Kind, key: str) -> Iterator[BinaryIO]:
        path = self.path(kind, key)
        with atomic_path(path, self.temporaries) as temporary, open(temporary, "w+b") as file:
            yield file
            file.flush()
            if kind != "index":  # quickly built again, should a power cut take it
                os.fsync(file.fileno())

    def _opened(self, kind: Kind, key: str) -> BinaryIO:
        try:
            return open(self.path(kind, key), "rb")
        except OSError as error:
            raise CacheError(f"no entry {self.path(kind, key)}: {error}") from error

    def _footer(
        self, file: BinaryIO | io.FileIO, kind: Kind, key: str
    ) -> tuple[dict[str, Any], int]:
        try:
            size = os.fstat(file.fileno()).st_size
            tail = os.pread(file.fileno(), _TAIL, max(0, size - _TAIL))
            if len(tail) < _END.size:
                raise ValueError("it is too short")
            digest, length, magic = _END.unpack(tail[-_END.size :])
            end = size - _END.size
            if magic != _MAGIC or length > end:
                raise ValueError("no footer")
            if length + _END.size <= len(tail):
                text = tail[-_END.size - length : -_END.size]
            else:
                text = os.pread(file.fileno(), length, end - length)
            if digest_of(text).digest() != digest:
                raise ValueError("the digest of its footer does not match")
            return json.loads(text), end - length
        except (OSError, ValueError) as error:
            raise CacheError(f"{self.path(kind, key)} is damaged: {error}") from error


class _Payload(io.RawIOBase):
    """The first bytes of an open file.

    Args:
        descriptor: of the file; it stays open.
        size: number of bytes.
    """

    def __init__(self, descriptor: int, size: int):
        self._descriptor, self._size, self._position = descriptor, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        n = max(0, min(len(buffer), self._size - self._position))
        n = os.preadv(self._descriptor, [memoryview(buffer)[:n]], self._position) if n else 0
        self._position += n
        return n


def _footer(info: dict[str, Any], digest: Any) -> bytes:
    text = json.dumps({**info, "digest": digest.hexdigest()}).encode()
    return text + _END.pack(digest_of(text).digest(), len(text), _MAGIC)
