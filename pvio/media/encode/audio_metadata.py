"""Audio packets, metadata and chapters, copied from a source to its re-encoded video."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.demux import demux
from pvio.media.index.frame_index import FrameIndex

logger = logging.getLogger(__name__)

# Metadata that describe a container, not the recording.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}
# Keys that MP4 stores as iTunes tags (libavformat/movenc.c, mov_write_ilst_tag).
_IN_MP4 = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
    *(
        "copyright",
        "grouping",
        "lyrics",
        "description",
        "synopsis",
        "show",
        "episode_id",
        "network",
    ),
    *("keywords", "track", "disc", "compilation", "hd_video", "media_type", "creation_time"),
}
_OF_A_STREAM = ("language", "title", "handler_name")
NO_OFFSET = Fraction(0)


def copy_metadata(index: FrameIndex, output: Any, start_offset: Fraction = NO_OFFSET) -> None:
    """Copy the container's metadata and chapters, and the metadata of the video stream.

    The output writes them with its header, later.

    Args:
        index: of the source.
        output: open container, to which the video stream has been added.
        start_offset: seconds that are added to the times of chapters.
    """
    with open_container(index.path) as source:
        output.metadata.update(_kept(source))
        chapters = source.chapters()
        for chapter in chapters:
            tags = chapter["metadata"]
            chapter["metadata"] = {key: _readable(value) for key, value in tags.items()}
            for end in ("start", "end"):
                chapter[end] += round(start_offset / (chapter["time_base"] or 1))
        if chapters:
            output.set_chapters(chapters)
        _describe(source.streams[index.stream_index], output.streams.video[0])


def needs_mdta_tags(index: FrameIndex) -> bool:
    """Whether the source's metadata have keys that MP4 can store only in its `mdta` key table.

    FFmpeg then writes all tags there, where fewer players look for a title.

    Args:
        index: of the source.
    """
    with open_container(index.path) as source:
        return any(key.lower() not in _IN_MP4 for key in _kept(source))


class AudioCopier:
    """Copies the audio streams of a source packet by packet into new streams of the output.

    Streams that the container does not support and packets that are damaged are left out.

    Args:
        index: of the source.
        output: open container.
        start_offset: seconds that are added to the times of packets.

    Attributes:
        warnings: about streams and packets that are left out.
    """

    def __init__(self, index: FrameIndex, output: Any, start_offset: Fraction = NO_OFFSET):
        self.warnings: list[str] = []
        self._path, self._output, self._start_offset = index.path, output, start_offset
        self._streams: dict[int, Any] = {}
        self._last_dts: dict[int, int] = {}
        self._n_lost = 0
        self._has_edit_list = output.format.name != "matroska"
        self._source: Any = None
        self._packets: Iterator[Any] = iter(())
        if index.n_audio_streams:
            self._source = open_container(index.path)
            for stream in self._source.streams.audio:
                self._add(stream)
            self._packets = self._read()
        self._pending = next(self._packets, None)

    def write_until(self, seconds: Fraction | None) -> None:
        """Write the packets with decoding times up to `seconds`, or all that are left (None)."""
        while (packet := self._pending) is not None:
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            self._output.mux(packet)
            self._pending = next(self._packets, None)

    def close(self) -> None:
        """Close the source; nothing more is written."""
        if self._source is not None:
            self._source.close()

    def _add(self, stream: Any) -> None:
        codec = stream.codec_context.name if stream.codec_context else "unknown codec"
        if codec not in self._output.supported_codecs:
            self._warn(
                f"the audio stream {stream.index} ({codec}) cannot be stored in this container and "
                "is left out"
            )
            return
        target = self._output.add_stream_from_template(stream)
        _describe(stream, target)
        target.disposition = stream.disposition
        self._streams[stream.index] = target

    def _read(self) -> Iterator[Any]:
        wanted = [self._source.streams[number] for number in self._streams]
        at = 0.0
        # By stream: the last packet that the source's edit list hides; decoders start with it.
        hidden: dict[int, Any] = {}
        try:
            for packet in demux(self._source, *wanted) if wanted else ():
                if packet.dts is None or not packet.size:
                    continue
                number = packet.stream.index
                # Containers allow only ascending times; damaged files have others.
                if packet.dts <= self._last_dts.get(number, packet.dts - 1):
                    self._n_lost += 1
                    continue
                self._last_dts[number] = packet.dts
                at = float(packet.dts * packet.time_base)
                before = hidden.pop(number, None)
                if packet.is_discard and not self._has_edit_list:
                    hidden[number] = packet
                    continue
                for each in (before, packet):
                    if each is not None:
                        yield self._moved(each)
        except av.error.FFmpegError as error:
            self._warn(f"its audio cannot be read after {at:.3f} s: {error.strerror}")
        if self._n_lost:
            self._warn(f"{self._n_lost} packet(s) of its audio have wrong times and are left out")

    def _moved(self, packet: Any) -> Any:
        """The packet with the stream and the times that it has in the output."""
        units = round(self._start_offset / packet.time_base) if self._start_offset else 0
        packet.dts += units
        packet.pts = None if packet.pts is None else packet.pts + units
        packet.stream = self._streams[packet.stream.index]
        return packet

    def _warn(self, text: str) -> None:
        logger.warning("%s: %s", self._path, text)
        self.warnings.append(text)


def _kept(source: Any) -> dict[str, str]:
    return {
        key: _readable(value)
        for key, value in source.metadata.items()
        if key.lower() not in _OF_THE_FILE and not key.lower().startswith("duration")
    }


def _readable(text: str) -> str:
    """Decode metadata: text that is not UTF-8 is mostly Latin-1, as in AVI files."""
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
