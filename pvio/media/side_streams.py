"""What a re-encoded video takes over from its source beside the pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from pvio.media.container import open_container
from pvio.media.index import FrameIndex

log = logging.getLogger(__name__)

# What a container says of itself, not of the recording.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}
_OF_A_STREAM = ("language", "title", "handler_name")
NOT_LATER = Fraction(0)


def copy_metadata(index: FrameIndex, output: Any, later: Fraction = NOT_LATER) -> None:
    """Take over the container's metadata and chapters, and the metadata of the video stream.

    Nothing is written yet. Containers leave out keys for which they have no place.

    Args:
        index: of the source.
        output: open container, to which the video stream has been added.
        later: seconds by which chapters come later than in the source.
    """
    with open_container(index.path) as source:
        kept = {
            key: _readable(value)
            for key, value in source.metadata.items()
            if key.lower() not in _OF_THE_FILE and not key.lower().startswith("duration")
        }
        output.metadata.update(kept)
        chapters = source.chapters()
        for chapter in chapters:
            words = chapter["metadata"]
            chapter["metadata"] = {key: _readable(value) for key, value in words.items()}
            for end in ("start", "end"):
                chapter[end] += round(later / (chapter["time_base"] or 1))
        if chapters:
            output.set_chapters(chapters)
        _describe(source.streams[index.stream_index], output.streams.video[0])


def audio_packets(index: FrameIndex, output: Any, later: Fraction = NOT_LATER) -> Iterator[Any]:
    """Packets of all audio streams of the source, for streams that are added to the output here.

    A stream that the container cannot hold is left out, with a warning.

    Args:
        index: of the source.
        output: open container.
        later: seconds by which packets come later than in the source.
    """
    if not index.n_audio_streams:
        return iter(())
    source = open_container(index.path)
    streams: dict[int, Any] = {}
    for stream in source.streams.audio:
        codec = stream.codec_context.name if stream.codec_context else "unknown codec"
        if codec not in output.supported_codecs:
            log.warning(
                "%s: the audio stream %d (%s) cannot be stored in this container and is left out",
                *(index.path, stream.index, codec),
            )
            continue
        streams[stream.index] = output.add_stream_from_template(stream)
        _describe(stream, streams[stream.index])
        streams[stream.index].disposition = stream.disposition

    def packets() -> Iterator[Any]:
        with source:
            wanted = [source.streams[number] for number in streams]
            for packet in source.demux(wanted) if wanted else ():
                if packet.dts is not None and packet.size:
                    units = round(later / packet.time_base) if later else 0
                    packet.dts += units
                    packet.pts = None if packet.pts is None else packet.pts + units
                    packet.stream = streams[packet.stream.index]
                    yield packet

    return packets()


def _readable(text: str) -> str:
    """Text that is no UTF-8 is mostly Latin-1, as in AVI files."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _describe(source: Any, target: Any) -> None:
    target.metadata.update(
        {
            key: _readable(value)
            for key, value in source.metadata.items()
            if key.lower() in _OF_A_STREAM
        }
    )
