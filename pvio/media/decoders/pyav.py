"""Reading with PyAV: decode packet by packet, and map its logged errors to frames."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np

from pvio.errors import UnreadableVideo
from pvio.media.bitstream.nal.units import (
    RandomAccess,
    has_slice,
    is_damaged,
    nal_length_size,
    random_access,
)
from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser
from pvio.media.decoders.counting import FrameCount, Repeats
from pvio.media.decoders.frame import DecodedFrame, Status
from pvio.media.decoders.strict_av1 import StrictAv1Decoder, keeps_the_rule
from pvio.media.decoders.trust import Trust
from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.demux import demux
from pvio.media.ffmpeg.log import capture_log, indicates_damage
from pvio.media.index.frame_index import FrameIndex
from pvio.media.index.packets import avi_positions
from pvio.media.index.parsers import parser_for

# Decoders to take instead of FFmpeg's own, by codec and pixel format. Its own one for VP9 decodes
# damaged data to any picture without a word; libvpx, as fast, notices when the data end too soon.
# (PyAV's libvpx is built for 8 bits only.)
_DECODERS = {("vp9", f"yuv{layout}p"): "libvpx-vp9" for layout in (420, 422, 440, 444)}
# Checksums that a stream carries, as HEVC may for every picture, are compared.
_OPTIONS = {"err_detect": "crccheck"}


class _Picture(NamedTuple):
    """A decoded frame, whether there is reason to distrust it, and its rank if it was counted."""

    frame: av.VideoFrame
    suspect: bool
    rank: int | None


class PyAVReader:
    """Decodes with FFmpeg through PyAV, one thread.

    A frame is `suspect` when the decoder logged an error or raised while it decoded this frame or
    one before it in the same GOP, since later frames build on earlier ones. The pictures that are
    shown before a keyframe but decoded behind it (open GOPs) build on the GOP before as well.
    A packet that says "as before" gives the frame before once more, with its status.

    Args:
        index: of a video file.
    """

    def __init__(self, index: FrameIndex):
        self.index = index
        self._container: Any = None
        self._decoder: Any = None
        self._length_size: int | None = None
        self._other_codecs: frozenset[str] = frozenset()  # names, of the streams beside
        # Of AVI files: numbers of packets by their position; whether none was looked up so far.
        self._positions: dict[int, int] = {}
        self._is_first = True
        self._parser: PacketParser | None = None
        self._repeats = Repeats(index)
        self._coded_size: tuple[int, int] | None = None  # of the last keyframe

    def frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        """See `FrameReader.frames`."""
        expected = start
        before: tuple[int, int | None] = (-1, None)
        last: tuple[int, _Picture] | None = None
        for picture in self._pictures_from(start):
            frame, suspect, rank = picture
            if self.index.pts_identify_frames:
                rank = self._rank(frame, before)
            if rank is None:
                continue
            before = (rank, frame.pts)
            while expected < min(rank, stop):
                yield self._without_picture(expected, last)
                expected += 1
            if rank >= stop:
                break
            last = (rank, picture)
            if rank < expected:
                continue
            yield DecodedFrame(rank, self._judge(frame, suspect), frame)
            expected = rank + 1
            if expected == stop:
                break
        for rank in range(expected, stop):
            yield self._without_picture(rank, last)

    def damaged_gops(self, start: int, stop: int) -> set[int]:
        """Ranks of the keyframes of GOPs with packets that are damaged by their looks.

        Args:
            start, stop: frames `[start, stop)` of a video whose time stamps tell its frames.

        Raises:
            UnreadableVideo: as `frames`.
        """
        found: set[int] = set()
        keyframe = self.index.keyframe_at_or_before(start)
        stream = self._seek(keyframe)
        with contextlib.suppress(av.error.FFmpegError):
            for packet in demux(self._container, stream):
                if packet.is_keyframe and packet.pts is not None:
                    keyframe = int(np.searchsorted(self.index.pts, packet.pts))
                    if keyframe >= stop:
                        break
                if packet.size and (packet.is_corrupt or self._is_damaged(packet)):
                    found.add(keyframe)
        return found

    def close(self) -> None:
        """Close the file and the decoder."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _rank(self, frame: av.VideoFrame, before: tuple[int, int | None]) -> int | None:
        """Rank of a picture, given rank and pts of the one before; None when it has none."""
        pts, keyframes, shown = self.index.pts, self.index.keyframes, frame.pts or 0
        follows = before[0] + 1
        if 0 < follows < len(pts) and before[1] != shown == pts[follows]:  # as nearly all do
            return follows
        first, last = int(pts.searchsorted(shown)), int(pts.searchsorted(shown, "right"))
        rank = first
        if frame.pts == before[1]:
            rank = before[0] + 1  # time stamps may repeat
        elif before[1] is None:
            # Decoding starts at a keyframe, which may not be the first frame of its time.
            near = np.searchsorted(keyframes, first)
            rank = (
                int(keyframes[near]) if near < len(keyframes) and keyframes[near] < last else rank
            )
        return rank if rank < last else None

    def _without_picture(self, rank: int, last: tuple[int, _Picture] | None) -> DecodedFrame:
        """A frame that the decoder did not give: the one before where that is what is to be shown.

        Args:
            rank: of the frame.
            last: the last picture in front of it, with its rank.
        """
        if last is None or not self._repeats.cover(last[0] + 1, rank):
            return DecodedFrame(rank, "missing", None)
        frame, suspect, _ = last[1]
        return DecodedFrame(rank, self._judge(frame, suspect), frame)

    def _judge(self, frame: av.VideoFrame, suspect: bool) -> Status:
        size = self.index.orientation.upright_size(frame.height, frame.width)
        if frame.is_corrupt or not self.index.has_size:
            return "corrupt"
        if size not in ((self.index.height, self.index.width), *self.index.other_sizes):
            if isinstance(self._decoder, StrictAv1Decoder) and not suspect:
                # Frames of AV1 may be coded smaller than they are shown; the check believes them.
                return "ok"
            # Where headers tell the sizes, this one is of a damaged header.
            return "suspect" if self._parser is None else "corrupt"
        return "suspect" if suspect else "ok"

    def _pictures_from(self, start: int) -> Iterator[_Picture]:
        """Pictures from a keyframe at or before `start` on."""
        wanted = self.index.pts[start]
        keyframe = self.index.keyframe_at_or_before(start)
        if keyframe > 0 and self.index.needs_preroll:
            # After such a keyframe the decoder misses pictures of the GOP before, and says so.
            keyframe = self.index.keyframe_at_or_before(keyframe - 1)
        while True:
            pictures = self._decode_from(keyframe)
            first = next(pictures, None)
            if keyframe == 0 or (first and (first.frame.pts or 0) <= wanted):
                break
            # The container's seek landed behind the frame: start further ahead of it.
            keyframe = self.index.keyframe_at_or_before(keyframe - 1)
        if first is not None:
            yield first
            yield from pictures

    def _decode_from(self, keyframe: int) -> Iterator[_Picture]:
        """Pictures from a keyframe on; none where the container's seek lands behind it."""
        self._repeats, self._coded_size = Repeats(self.index), None
        trust = Trust()
        count = None
        if not self.index.pts_identify_frames:
            count = FrameCount(self.index.n_frames, self._repeats)
        n_shown, frame_pts, follows_repeat = 0, None, False
        for packet, number, follows in self._packets_from(keyframe):
            kind, parser = PacketKind.FRAME, self._parser
            if parser and packet.size and (packet.is_keyframe or parser.all_matter):
                kind = parser.read(packet)
            is_frame = kind in (PacketKind.FRAME, PacketKind.REPEATED)
            starts = is_frame and packet.is_keyframe and self._can_start(packet)
            if count:
                # Decoders hand the time of a packet on to its picture. This one tells which it is.
                packet.pts = number + (not packet.size) if self._positions else n_shown
                packet.dts = packet.pts
                n_shown += is_frame and not packet.is_discard
            if kind is PacketKind.SECOND_FIELD:
                packet.pts = frame_pts  # what is wrong with it is wrong with the frame
            elif kind is PacketKind.FRAME:
                frame_pts = packet.pts
            self._repeats.take(packet, kind, parser)
            if not follows:
                trust.interrupt()
            trust.expect(packet, starts)
            if kind is PacketKind.REPEATED or parser is None or not parser.is_reordered:
                follows_repeat = kind is PacketKind.REPEATED
            elif follows_repeat:
                # FFmpeg shows a B-frame here too early, made from the frames before its own two.
                trust.distrust_pending()
            if count:
                if not follows:
                    count.doubt(packet)
                count.expect(packet, starts)
            frames = self._drained_where_size_changes(parser) if starts and parser else []
            decoded, has_error = self._decode_checked(packet)
            frames += decoded
            if isinstance(self._decoder, StrictAv1Decoder):
                # It tells by itself which later pictures build on this one.
                if has_error or packet.is_corrupt or self._decoder.complained:
                    trust.distrust(packet)
            elif has_error or packet.is_corrupt:
                trust.lose(packet)
            if count and (has_error or not self._has_picture(packet)):
                # An incomplete packet, as the last one in front of a join, has its picture still.
                count.doubt(packet)
            for frame in frames:
                suspect = trust.is_lost(frame)
                rank = count.rank(frame) if count else None
                if (frame.pts if count is None else rank) is not None:
                    yield _Picture(frame, suspect, rank)

    def _packets_from(self, keyframe: int) -> Iterator[tuple[Any, int, bool]]:
        """Packets from a keyframe on; none where the container's seek lands behind it.

        Yields:
            A packet, its number in the own index of an AVI file or -1, and whether no packet
            before it is missing.
        """
        stream = self._seek(keyframe)
        packets = demux(self._container, stream)
        number, is_first = -1, keyframe > 0
        while True:
            with capture_log() as messages:
                try:
                    packet = next(packets, None)
                except av.error.FFmpegError:  # reading failed: nothing comes any more
                    return
            if packet is None:
                return
            found, follows = self._number(packet, number)
            if found is None:
                continue
            number = found
            if is_first and packet.pts is not None and packet.pts > self.index.pts[keyframe]:
                return
            is_first = False
            yield packet, number, follows and not indicates_damage(messages, self._other_codecs)

    def _number(self, packet: Any, before: int) -> tuple[int | None, bool]:
        """Number that the own index of an AVI file has for a packet; gives the packet its time.

        Returns:
            The number, None when the file's index does not know the packet, and whether it follows
            on the packet numbered `before`.
        """
        if not self._positions or not packet.size:
            if self.index.container == "avi":
                packet.pts = packet.dts
            return before, True
        number = self._positions.get(packet.pos)
        if number is None:
            if self._is_first:  # the file's index is of no use
                self._positions = {}
                return self._number(packet, before)
            return None, False
        self._is_first = False
        if self.index.pts_identify_frames:
            packet.pts = packet.dts = int(self.index.pts[number])
        return number, before in (-1, number - 1)

    def _can_start(self, packet: Any) -> bool:
        access = random_access(packet, self.index.codec, self._length_size)
        return access is not RandomAccess.NONE

    def _is_damaged(self, packet: Any) -> bool:
        size, codec = self._length_size, self.index.codec
        return size is not None and is_damaged(bytes(packet), size, codec)

    def _has_picture(self, packet: Any) -> bool:
        size, codec = self._length_size, self.index.codec
        return size is None or not packet.size or has_slice(bytes(packet), size, codec)

    def _open(self) -> Any:
        return open_container(self.index.decode_path)

    def _decoder_for(self, stream: Any) -> Any:
        name = _DECODERS.get((self.index.codec, self.index.pix_fmt))
        return av.CodecContext.create(name, "r") if name else stream.codec_context

    def _decode(self, packet: Any) -> list[av.VideoFrame]:
        return list(self._decoder.decode(packet))

    def _decode_checked(self, packet: Any) -> tuple[list[av.VideoFrame], bool]:
        """What the decoder gives for a packet, and whether the packet has an error.

        The decoder logs or raises it, or the packet's own bytes show it.
        """
        with capture_log() as messages:
            try:
                frames = self._decode(packet)
            except av.error.FFmpegError:
                return [], True
        has_error = self._is_damaged(packet) or indicates_damage(messages)
        # A slice whose kind is damaged looks like side information.
        return frames, has_error or (bool(messages) and not self._has_picture(packet))

    def _drained_where_size_changes(self, parser: PacketParser) -> list[av.VideoFrame]:
        """What the decoder holds back, where a keyframe has another size than the one before.

        Decoders of MPEG-2 lose it there.
        """
        before, self._coded_size = self._coded_size, parser.size
        return self._drained() if before not in (None, parser.size) else []

    def _drained(self) -> list[av.VideoFrame]:
        """What the decoder holds back; it can go on behind it."""
        with capture_log(), contextlib.suppress(av.error.FFmpegError):
            frames = self._decode(None)
            self._decoder.flush_buffers()
            return frames
        return []

    def _seek(self, keyframe: int) -> Any:
        if keyframe == 0:
            self.close()
        try:
            if self._container is None:
                self._container = self._open()
                stream = self._container.streams[self.index.stream_index]
                if self.index.container == "avi":
                    positions = avi_positions(stream)
                    self._positions = positions if len(positions) == self.index.n_frames else {}
                    self._is_first = True
                extradata = stream.codec_context.extradata
                self._length_size = nal_length_size(self.index.codec, extradata)
                self._parser = parser_for(self.index.codec, extradata)
                decoder = self._decoder_for(stream)
                decoder.thread_count = 1
                decoder.options = _OPTIONS
                if decoder.name == "libdav1d" and keeps_the_rule(
                    self.index.decode_path, self.index.stream_index, _OPTIONS
                ):
                    decoder = StrictAv1Decoder(stream, _OPTIONS)
                self._decoder = decoder
                self._other_codecs = _other_codecs(self._container, stream)
            stream = self._container.streams[self.index.stream_index]
        except (OSError, IndexError, av.error.FFmpegError) as error:
            raise UnreadableVideo(self.index.path, f"it could be read before: {error}") from error
        if keyframe > 0:
            try:
                self._container.seek(int(self.index.pts[keyframe]), stream=stream)
            except av.error.FFmpegError:  # damaged where the container keeps its index
                return self._seek(0)
            self._decoder.flush_buffers()
            if self._parser:
                self._parser.restart()
        return stream


def _other_codecs(container: Any, stream: Any) -> frozenset[str]:
    """Names of the codecs of a container's other streams, where the stream's own is none of them.

    FFmpeg's parsers of these complain under such names while packets of the stream are read.
    """
    contexts = [each.codec_context for each in container.streams if each.index != stream.index]
    names = {context.name for context in contexts if context is not None}
    return frozenset(names - {stream.codec_context.name})
