"""What a re-encoded video takes over from its source beside the pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.demux import demux
from pvio.media.index.frame_index import FrameIndex

log = logging.getLogger(__name__)

# What a container says of itself, not of the recording.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}
# For which MP4 has a place of their own (libavformat/movenc.c, mov_write_ilst_tag).
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
NOT_LATER = Fraction(0)


def copy_metadata(index: FrameIndex, output: Any, later: Fraction = NOT_LATER) -> None:
    """Take over the container's metadata and chapters, and the metadata of the video stream.

    Nothing is written yet.

    Args:
        index: of the source.
        output: open container, to which the video stream has been added.
        later: seconds by which chapters come later than in the source.
    """
    with open_container(index.path) as source:
        output.metadata.update(_kept(source))
        chapters = source.chapters()
        for chapter in chapters:
            words = chapter["metadata"]
            chapter["metadata"] = {key: _readable(value) for key, value in words.items()}
            for end in ("start", "end"):
                chapter[end] += round(later / (chapter["time_base"] or 1))
        if chapters:
            output.set_chapters(chapters)
        _describe(source.streams[index.stream_index], output.streams.video[0])


def needs_mdta_tags(index: FrameIndex) -> bool:
    """Whether the source's metadata have keys that MP4 holds in a table of free keys only.

    FFmpeg then writes all of them there, where fewer players look for a title.
    """
    with open_container(index.path) as source:
        return any(key.lower() not in _IN_MP4 for key in _kept(source))


class AudioCopier:
    """The audio streams of a source, packet by packet, in the streams that it adds to the output.

    A stream that the container cannot hold is left out, and so is what damage makes unreadable.

    Args:
        index: of the source.
        output: open container.
        later: seconds by which packets come later than in the source.

    Attributes:
        remarks: what is left out, as words.
    """

    def __init__(self, index: FrameIndex, output: Any, later: Fraction = NOT_LATER):
        self.remarks: list[str] = []
        self._path, self._output, self._later = index.path, output, later
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
        """Write the packets that are decoded up to a time, or all that are left."""
        while (packet := self._pending) is not None:
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            self._output.mux(packet)
            self._pending = next(self._packets, None)

    def close(self) -> None:
        """End reading; nothing more is written."""
        if self._source is not None:
            self._source.close()

    def _add(self, stream: Any) -> None:
        codec = stream.codec_context.name if stream.codec_context else "unknown codec"
        if codec not in self._output.supported_codecs:
            self._remark(
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
        # By stream: the last packet that the source's edit list hides, with which decoders begin.
        hidden: dict[int, Any] = {}
        try:
            for packet in demux(self._source, *wanted) if wanted else ():
                if packet.dts is None or not packet.size:
                    continue
                number = packet.stream.index
                # Containers hold only ascending times; damage makes others.
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
            self._remark(f"its sound cannot be read behind {at:.3f} s: {error.strerror}")
        if self._n_lost:
            self._remark(f"{self._n_lost} packet(s) of its sound have wrong times and are left out")

    def _moved(self, packet: Any) -> Any:
        """A packet as it goes into the output."""
        units = round(self._later / packet.time_base) if self._later else 0
        packet.dts += units
        packet.pts = None if packet.pts is None else packet.pts + units
        packet.stream = self._streams[packet.stream.index]
        return packet

    def _remark(self, text: str) -> None:
        log.warning("%s: %s", self._path, text)
        self.remarks.append(text)


def _kept(source: Any) -> dict[str, str]:
    return {
        key: _readable(value)
        for key, value in source.metadata.items()
        if key.lower() not in _OF_THE_FILE and not key.lower().startswith("duration")
    }


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
