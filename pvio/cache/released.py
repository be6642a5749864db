"""Encoded segments that are part of a product: the cache keeps the product in their place.

The file of the product has a second name in the cache (a hard link), so that the disk holds each
encoded frame once. Of each segment a small entry stays, with its metadata and the product's key.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pvio.cache.atomic import link_or_copy, temporary_name
from pvio.cache.digest import file_digest, hash_key
from pvio.cache.entries import Cache
from pvio.errors import CacheError

logger = logging.getLogger(__name__)


class ReleasedSegments:
    """Released segments of a cache, and the products that replace them.

    Args:
        cache: with the entries.
    """

    def __init__(self, cache: Cache):
        self._cache = cache
        self._digests: dict[tuple[Any, ...], str] = {}

    def find(self, segment: str) -> tuple[dict[str, Any], float] | None:
        """The metadata of a released segment, and when it was encoded.

        Args:
            segment: key of its entry.

        Returns:
            The result of `Cache.find` for the entry itself; None if it was not released, or if its
            product is missing or was changed.
        """
        try:
            found = self._cache.find("released", segment)
        except CacheError:
            return None
        if found is None or not self._is_there(found[0]):
            return None
        return found[0] | {"digest": found[0]["segment_digest"]}, found[0]["finished_at"]

    def product_of(self, segment: str) -> str:
        """The key of the product of a released segment; "" for other segments."""
        found = self.find(segment)
        return "" if found is None else str(found[0]["product"])

    def release(
        self, product: str, file: Path, digest: str, segments: Sequence[str], warnings: list[str]
    ) -> bool:
        """Replace the entries of segments by their product.

        Args:
            product: key of the product, see `released_product_key`.
            file: of the product.
            digest: of this file.
            segments: keys of its segments.
            warnings: about the product, for the user.

        Returns:
            Whether they were replaced; False if the product is on another file system, or on one
            without hard links.
        """
        if not (left := [each for each in segments if self._cache.has("video", each)]):
            return True
        kept = self._cache.path("product", product)
        stamp = _stamp(file)
        if _stamp(kept) != stamp and not self._link(file, kept):
            return False
        about = {"product": product, "stamp": stamp, "file_digest": digest, "remarks": warnings}
        for segment in left:
            with contextlib.suppress(CacheError):
                found = self._cache.find("video", segment)
                if found is None:
                    continue
                metadata = found[0] | {"finished_at": found[1]}
                metadata["segment_digest"] = metadata.pop("digest")
                self._cache.write("released", segment, b"", {**metadata, **about})
                self._cache.remove("video", segment)
        return True

    def restore(self, product: str, segments: Iterable[str], path: Path) -> list[str] | None:
        """Put a product that the cache keeps at a path.

        Args:
            product: its key.
            segments: keys of its segments.
            path: where to put it.

        Returns:
            Its warnings; None if the cache does not have it.
        """
        for segment in segments:
            found = self.find(segment)
            if found is not None and found[0]["product"] == product:
                link_or_copy(self._cache.path("product", product), path)
                return list(found[0]["remarks"])
        return None

    def forget(self, segments: Iterable[str]) -> bool:
        """Let segments count as missing whose product cannot be used any more.

        Returns:
            Whether any had been released.
        """
        were_released = False
        for segment in segments:
            if not self._cache.has("video", segment):
                were_released |= self._cache.has("released", segment)
            self._cache.remove("released", segment)
        return were_released

    def _is_there(self, metadata: dict[str, Any]) -> bool:
        path, expected = self._cache.path("product", metadata["product"]), metadata["stamp"]
        stamp = _stamp(path)
        if not stamp or stamp == expected:
            return bool(stamp)
        # Its file in the results has the same time, which a user may have changed.
        known = (path, *stamp)
        if known not in self._digests:
            digest = file_digest(path) if stamp[0] == expected[0] else ""
            if digest != metadata["file_digest"]:
                logger.warning(
                    "%s is damaged: its digest does not match; its video is encoded again", path
                )
            self._digests[known] = digest
        return bool(self._digests[known] == metadata["file_digest"])

    def _link(self, file: Path, kept: Path) -> bool:
        temporary = self._cache.temporaries / temporary_name()
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, temporary)
            os.replace(temporary, kept)
            return True
        except OSError:
            return False
        finally:
            temporary.unlink(missing_ok=True)


def released_product_key(source: str, suffix: str, digests: Sequence[str]) -> str:
    """The key of a product.

    Args:
        source: digest of its video, whose audio and metadata it has.
        suffix: of the file, which determines the container.
        digests: of its encoded segments.
    """
    return hash_key(product=1, source=source, suffix=suffix, segments=list(digests))


def _stamp(path: Path) -> list[int]:
    """Size and modification time of a file; empty without one."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
