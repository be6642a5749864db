"""Keys of entries, and digests of files."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

DIGEST_SIZE = 16


def hash_key(**fields: Any) -> str:
    """A key from everything the entry depends on (JSON values)."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def digest_of(data: bytes | memoryview) -> Any:
    """A BLAKE2b hash of the data, which can be updated with more."""
    return hashlib.blake2b(data, digest_size=DIGEST_SIZE)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Digest of a file's bytes."""
    with open(path, "rb") as file:
        return stream_digest(file)


def stream_digest(file: Any) -> str:
    """Digest of what an open binary file gives, see `hashlib.file_digest`."""
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
