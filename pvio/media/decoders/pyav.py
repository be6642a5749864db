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
from pvio.media.decoders.strict_av1 import StrictAv1Decoder, passes_the_check
from pvio.media.decoders.trust import Trust
from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.demux import demux
from pvio.media.ffmpeg.log import capture_log, indicates_damage
from pvio.media.index.frame_index import FrameIndex
from pvio.media.index.packets import avi_positions
from pvio.media.index.parsers import parser_for

# Decoders to use instead of FFmpeg's own, by codec and pixel format. FFmpeg's VP9 decoder decodes
# damaged data to any frame and logs nothing; libvpx, as fast, notices when the data end too soon.
# (PyAV's libvpx is built for 8 bits only.)
_DECODERS = {("vp9", f"yuv{layout}p"): "libvpx-vp9" for layout in (420, 422, 440, 444)}
# Compare checksums that a stream contains; HEVC may have one for every frame.
_OPTIONS = {"err_detect": "crccheck"}


class _Output(NamedTuple):
    """A frame of the decoder, whether it is suspect, and its number if frames are counted."""

    frame: av.VideoFrame
    suspect: bool
    number: int | None


class PyAVReader:
    """Decodes with FFmpeg through PyAV, one thread.

    A frame is `suspect` when the decoder logged an error or raised while it decoded this frame or
    one before it in the same GOP, since later frames refer to earlier ones. Frames that are
    shown before a keyframe but decoded after it (open GOPs) refer to the GOP before as well.
    A packet that repeats the frame before gives that frame once more, with its status.

    Args:
        index: of a video file.
    """

    def __init__(self, index: FrameIndex):
        self.index = index
        self._container: Any = None
        self._decoder: Any = None
        self._length_size: int | None = None
        self._other_codecs: frozenset[str] = frozenset()  # names, of the other streams
        # For AVI files: packet numbers by file position; whether none was looked up so far.
        self._positions: dict[int, int] = {}
        self._is_first = True
        self._parser: PacketParser | None = None
        self._repeats = Repeats(index)
        self._coded_size: tuple[int, int] | None = None  # of the last keyframe

    def frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        """See `FrameReader.frames`."""
        expected = start
        before: tuple[int, int | None] = (-1, None)
        last: tuple[int, _Output] | None = None
        for output in self._outputs_from(start):
            frame, suspect, number = output
            if self.index.pts_identify_frames:
                number = self._frame_number(frame, before)
            if number is None:
                continue
            before = (number, frame.pts)
            while expected < min(number, stop):
                yield self._repeated_or_missing(expected, last)
                expected += 1
            if number >= stop:
                break
            last = (number, output)
            if number < expected:
                continue
            yield DecodedFrame(number, self._status(frame, suspect), frame)
            expected = number + 1
            if expected == stop:
                break
        for number in range(expected, stop):
            yield self._repeated_or_missing(number, last)

    def damaged_gops(self, start: int, stop: int) -> set[int]:
        """Numbers of the keyframes of GOPs with packets whose bytes are damaged.

        Args:
            start: number of the first frame; the video's timestamps identify its frames.
            stop: number after the last one.

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

    def _frame_number(self, frame: av.VideoFrame, before: tuple[int, int | None]) -> int | None:
        """Number of a frame, given number and pts of the one before; None if not in the index."""
        pts, keyframes, shown = self.index.pts, self.index.keyframes, frame.pts or 0
        follows = before[0] + 1
        if 0 < follows < len(pts) and before[1] != shown == pts[follows]:  # the usual case
            return follows
        first, last = int(pts.searchsorted(shown)), int(pts.searchsorted(shown, "right"))
        number = first
        if frame.pts == before[1]:
            number = before[0] + 1  # timestamps may repeat
        elif before[1] is None:
            # Decoding starts at a keyframe, which may not be the first frame of its time.
            near = np.searchsorted(keyframes, first)
            if near < len(keyframes) and keyframes[near] < last:
                number = int(keyframes[near])
        return number if number < last else None

    def _repeated_or_missing(self, number: int, last: tuple[int, _Output] | None) -> DecodedFrame:
        """A frame that the decoder did not return: the frame before if repeated, else missing.

        Args:
            number: of the frame.
            last: the last decoded frame before it, with its number.
        """
        if last is None or not self._repeats.cover(last[0] + 1, number):
            return DecodedFrame(number, "missing", None)
        frame, suspect, _ = last[1]
        return DecodedFrame(number, self._status(frame, suspect), frame)

    def _status(self, frame: av.VideoFrame, suspect: bool) -> Status:
        size = self.index.orientation.upright_size(frame.height, frame.width)
        if frame.is_corrupt or not self.index.has_size:
            return "corrupt"
        if size not in ((self.index.height, self.index.width), *self.index.other_sizes):
            if isinstance(self._decoder, StrictAv1Decoder) and not suspect:
                # AV1 frames may be coded smaller than they are shown; the decoder checked this.
                return "ok"
            # Where headers contain the sizes, this size comes from a damaged header.
            return "suspect" if self._parser is None else "corrupt"
        return "suspect" if suspect else "ok"

    def _outputs_from(self, start: int) -> Iterator[_Output]:
        """Frames from a keyframe at or before `start` on."""
        wanted = self.index.pts[start]
        keyframe = self.index.keyframe_at_or_before(start)
        if keyframe > 0 and self.index.needs_preroll:
            # After such a keyframe the decoder lacks frames of the GOP before, and logs errors.
            keyframe = self.index.keyframe_at_or_before(keyframe - 1)
        while True:
            outputs = self._decode_from(keyframe)
            first = next(outputs, None)
            if keyframe == 0 or (first and (first.frame.pts or 0) <= wanted):
                break
            # The container's seek landed after the frame: start further before it.
            keyframe = self.index.keyframe_at_or_before(keyframe - 1)
        if first is not None:
            yield first
            yield from outputs

    def _decode_from(self, keyframe: int) -> Iterator[_Output]:
        """Frames from a keyframe on; none if the container's seek lands after it."""
        self._repeats, self._coded_size = Repeats(self.index), None
        trust = Trust()
        count = None
        if not self.index.pts_identify_frames:
            count = FrameCount(self.index.n_frames, self._repeats)
        n_shown, frame_pts, follows_repeat = 0, None, False
        for packet, position, follows in self._packets_from(keyframe):
            kind, parser = PacketKind.FRAME, self._parser
            if parser and packet.size and (packet.is_keyframe or parser.all_matter):
                kind = parser.read(packet)
            is_frame = kind in (PacketKind.FRAME, PacketKind.REPEATED)
            starts = is_frame and packet.is_keyframe and self._can_start(packet)
            if count:
                # Decoders copy the time of a packet to its frame, which identifies the frame.
                packet.pts = position + (not packet.size) if self._positions else n_shown
                packet.dts = packet.pts
                n_shown += is_frame and not packet.is_discard
            if kind is PacketKind.SECOND_FIELD:
                packet.pts = frame_pts  # an error in it is an error of the frame
            elif kind is PacketKind.FRAME:
                frame_pts = packet.pts
            self._repeats.take(packet, kind, parser)
            if not follows:
                trust.interrupt()
            trust.expect(packet, starts)
            if kind is PacketKind.REPEATED or parser is None or not parser.is_reordered:
                follows_repeat = kind is PacketKind.REPEATED
            elif follows_repeat:
                # FFmpeg shows a B-frame here too early, predicted from wrong frames.
                trust.distrust_pending()
            if count:
                if not follows:
                    count.doubt(packet)
                count.expect(packet, starts)
            frames = self._drained_where_size_changes(parser) if starts and parser else []
            decoded, has_error = self._decode_checked(packet)
            frames += decoded
            if isinstance(self._decoder, StrictAv1Decoder):
                # It detects by itself which later frames refer to this one.
                if has_error or packet.is_corrupt or self._decoder.has_error:
                    trust.distrust(packet)
            elif has_error or packet.is_corrupt:
                trust.lose(packet)
            if count and (has_error or not self._contains_slice(packet)):
                # An incomplete packet, as the last one before a join, still has its frame.
                count.doubt(packet)
            for frame in frames:
                suspect = trust.is_suspect(frame)
                number = count.frame_number(frame) if count else None
                if (frame.pts if count is None else number) is not None:
                    yield _Output(frame, suspect, number)

    def _packets_from(self, keyframe: int) -> Iterator[tuple[Any, int, bool]]:
        """Packets from a keyframe on; none if the container's seek lands after it.

        Yields:
            A packet, its number in an AVI file's own index or -1, and whether no packet
            before it is missing.
        """
        stream = self._seek(keyframe)
        packets = demux(self._container, stream)
        number, is_first = -1, keyframe > 0
        while True:
            with capture_log() as messages:
                try:
                    packet = next(packets, None)
                except av.error.FFmpegError:  # reading failed: no more packets
                    return
            if packet is None:
                return
            found, follows = self._packet_number(packet, number)
            if found is None:
                continue
            number = found
            if is_first and packet.pts is not None and packet.pts > self.index.pts[keyframe]:
                return
            is_first = False
            yield packet, number, follows and not indicates_damage(messages, self._other_codecs)

    def _packet_number(self, packet: Any, before: int) -> tuple[int | None, bool]:
        """Number of a packet in an AVI file's own index; sets the packet's time.

        Returns:
            The number, None if the file's index lacks the packet, and whether the packet follows
            packet `before`.
        """
        if not self._positions or not packet.size:
            if self.index.container == "avi":
                packet.pts = packet.dts
            return before, True
        number = self._positions.get(packet.pos)
        if number is None:
            if self._is_first:  # the file's index is unusable
                self._positions = {}
                return self._packet_number(packet, before)
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

    def _contains_slice(self, packet: Any) -> bool:
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
        """Frames that the decoder returns for a packet, and whether the packet has an error.

        The decoder logs or raises it, or the bytes of the packet show it.
        """
        with capture_log() as messages:
            try:
                frames = self._decode(packet)
            except av.error.FFmpegError:
                return [], True
        has_error = self._is_damaged(packet) or indicates_damage(messages)
        # A slice with a damaged type looks like side information.
        return frames, has_error or (bool(messages) and not self._contains_slice(packet))

    def _drained_where_size_changes(self, parser: PacketParser) -> list[av.VideoFrame]:
        """Frames that the decoder holds back, if a keyframe has another size than the one before.

        Decoders of MPEG-2 lose them there.
        """
        before, self._coded_size = self._coded_size, parser.size
        return self._drained() if before not in (None, parser.size) else []

    def _drained(self) -> list[av.VideoFrame]:
        """Frames that the decoder holds back; it can continue afterwards."""
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
                if decoder.name == "libdav1d" and passes_the_check(
                    self.index.decode_path, self.index.stream_index, _OPTIONS
                ):
                    decoder = StrictAv1Decoder(stream, _OPTIONS)
                self._decoder = decoder
                self._other_codecs = _other_codecs(self._container, stream)
            stream = self._container.streams[self.index.stream_index]
        except (OSError, IndexError, av.error.FFmpegError) as error:
            raise UnreadableVideo(
                self.index.path, f"the file cannot be reopened: {error}"
            ) from error
        if keyframe > 0:
            try:
                self._container.seek(int(self.index.pts[keyframe]), stream=stream)
            except av.error.FFmpegError:  # the container's index is damaged
                return self._seek(0)
            self._decoder.flush_buffers()
            if self._parser:
                self._parser.restart()
        return stream


def _other_codecs(container: Any, stream: Any) -> frozenset[str]:
    """Names of the codecs of a container's other streams, without that of the stream itself.

    FFmpeg's parsers of these log errors under these names while packets of the stream are read.
    """
    contexts = [each.codec_context for each in container.streams if each.index != stream.index]
    names = {context.name for context in contexts if context is not None}
    return frozenset(names - {stream.codec_context.name})
