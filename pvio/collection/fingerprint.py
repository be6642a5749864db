"""The rerun trigger of the workflow: a text that changes with the collection."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from pvio.collection.folders import (
    ABSENT,
    cannot_look_at,
)
from pvio.collection.image_names import (
    image_files,
)
from pvio.collection.sources import Source


def fingerprint(sources: Iterable[Source]) -> str:
    """Digest of path, name, size, and times of change of every video: one `stat` each.

    Raises:
        CollectionError: when a video or a folder of images cannot be looked at.
    """
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        digest.update(
            f"{source.path}\0{source.name}\0{stat_key(source.path)}\n".encode(
                "utf-8", "surrogateescape"
            )
        )
        if source.is_image_folder:
            try:
                images = image_files(source.path)
            except OSError as error:
                raise cannot_look_at(source.path, error) from error
            for image in images:
                line = f"{image}\0{stat_key(image)}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def stat_key(path: str) -> str:
    """`size:mtime_ns:ctime_ns` of a file, or `absent`.

    Raises:
        CollectionError: when it is unknown whether it exists.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        if error.errno in ABSENT:
            return "absent"
        raise cannot_look_at(path, error) from error
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
