"""Opening a file for reading."""

from __future__ import annotations

from typing import Any

import av


def open_container(file: Any, **options: Any) -> av.container.InputContainer:
    """A video file, by path or as a binary file, whatever its metadata are encoded in.

    Bytes of the metadata that are no UTF-8 come as surrogates. `options` are those of `av.open`.
    """
    return av.open(file, metadata_errors="surrogateescape", **options)
