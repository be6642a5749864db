"""Reading with PyAV: decode packet by packet, and listen to what the decoder complains about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np

from pvio.errors import UnreadableVideo
from pvio.media.complaints import listen, tell_of_damage
from pvio.media.decoded import Decoded, Status
from pvio.media.index import FrameIndex, avi_positions
from pvio.media.nal import is_damaged, length_size

# Decoders to take instead of FFmpeg's own, by codec and pixel format. Its own one for VP9 decodes
# damaged data to any picture without a word; libvpx, as fast, notices when the data end too soon.
# (PyAV's libvpx is built for 8 bits only.)
_DECODERS = {("vp9", f"yuv{layout}p"): "libvpx-vp9" for layout in (420, 422, 440, 444)}
# Checksums that a stream carries, as HEVC may for every picture, are compared.
_OPTIONS = {"err_detect": "crccheck"}
# More packets than any decoder holds back.
_MOST_PENDING = 1000


class _Picture(NamedTuple):
    """A decoded frame, and whether the decoder gave reason to distrust it."""

    frame: av.VideoFrame
    suspect: bool


class PyAVReader:
    """Decodes with FFmpeg through PyAV, one thread.

    A frame is `suspect` when the decoder logged an error or raised while it decoded this frame or
    one before it in the same GOP, since later frames build on earlier ones. The pictures that are
    shown before a keyframe but decoded behind it (open GOPs) build on the GOP before as well.

    Args:
        index: of a video file.
    """

    def __init__(self, index: FrameIndex):
        self.index = index
        self._container: Any = None
        self._decoder: Any = None
        self._length_size = 0
        self._is_avi = index.timed and index.container == "avi"
        self._positions: dict[int, int] = {}

    def frames(self, start: int, stop: int) -> Iterator[Decoded]:
        """See `Reader.frames`."""
        expected = start
        before: tuple[int, int | None] = (-1, None)
        for frame, suspect in self._pictures_from(start):
            rank = self._rank(frame, before)
            if rank is None:
                continue
            before = (rank, frame.pts)
            if rank < expected:
                continue
            while expected < min(rank, stop):
                yield Decoded(expected, "missing", None)
                expected += 1
            if rank >= stop:
                break
            yield Decoded(rank, self._judge(frame, suspect), frame)
            expected = rank + 1
            if expected == stop:
                break
        for rank in range(expected, stop):
            yield Decoded(rank, "missing", None)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _rank(self, frame: av.VideoFrame, before: tuple[int, int | None]) -> int | None:
        """Rank of a picture, given rank and pts of the one before; None when it has none."""
        if not self.index.timed:
            return before[0] + 1 if before[0] + 1 < self.index.n_frames else None
        keyframes, shown = self.index.keyframes, frame.pts or 0
        first, last = (int(np.searchsorted(self.index.pts, shown, s)) for s in ("left", "right"))
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

    def _judge(self, frame: av.VideoFrame, suspect: bool) -> Status:
        size = self.index.orientation.upright_size(frame.height, frame.width)
        if frame.is_corrupt or size != (self.index.height, self.index.width):
            return "corrupt"
        return "suspect" if suspect else "ok"

    def _pictures_from(self, start: int) -> Iterator[_Picture]:
        """Pictures from a keyframe at or before `start` on."""
        wanted = self.index.pts[start]
        keyframe = self.index.keyframe_before(start)
        if keyframe > 0 and self.index.starts_are_unclean:
            # Behind such a keyframe the decoder misses pictures of the GOP before, and says so.
            keyframe = self.index.keyframe_before(keyframe - 1)
        while True:
            pictures = self._decode_from(keyframe)
            first = next(pictures, None)
            if keyframe == 0 or (first and (first.frame.pts or 0) <= wanted):
                break
            # The container's seek landed behind the frame: start further ahead of it.
            keyframe = self.index.keyframe_before(keyframe - 1)
        if first is not None:
            yield first
            yield from pictures

    def _decode_from(self, keyframe: int) -> Iterator[_Picture]:
        stream = self._seek(keyframe)
        packets = self._container.demux(stream)
        trust = _Trust()
        number = -1
        while True:
            with listen() as messages:
                try:
                    packet = next(packets, None)
                except av.error.FFmpegError:  # reading failed: nothing comes any more
                    return
            if packet is None:
                return
            found, follows = self._retime(packet, number)
            if found is None:
                continue
            number = found
            if not follows or tell_of_damage(messages):
                trust.interrupt()
            trust.expect(packet)
            with listen() as messages:
                try:
                    frames = self._decoder.decode(packet)
                except av.error.FFmpegError:
                    frames, raised = [], True
                else:
                    raised = False
            damaged = packet.is_corrupt or self._is_damaged(packet)
            if raised or damaged or tell_of_damage(messages):
                trust.lose(packet)
            for frame in frames:
                if frame.pts is not None or not self.index.timed:
                    yield _Picture(frame, trust.is_lost(frame))

    def _retime(self, packet: Any, before: int) -> tuple[int | None, bool]:
        """Give a packet of an AVI file the time that the file's index has for it.

        Returns:
            Its number, None when the index does not know it, and whether it follows on the packet
            numbered `before`.
        """
        if not self._is_avi or not packet.size:
            return before, True
        number = self._positions.get(packet.pos)
        if number is None:
            if before >= 0:
                return None, False
            # No packet was known so far: the file's index is of no use, or absent.
            packet.pts = packet.dts
            return before, True
        packet.pts = packet.dts = int(self.index.pts[number])
        return number, before in (-1, number - 1)

    def _is_damaged(self, packet: Any) -> bool:
        return bool(self._length_size) and is_damaged(bytes(packet), self._length_size)

    def _seek(self, keyframe: int) -> Any:
        if keyframe == 0:
            self.close()
        try:
            if self._container is None:
                self._container = av.open(self.index.path)
                stream = self._container.streams[self.index.stream_index]
                if self._is_avi:
                    positions = avi_positions(stream)
                    self._positions = positions if len(positions) == self.index.n_frames else {}
                context = stream.codec_context
                self._length_size = length_size(self.index.codec, context.extradata)
                if name := _DECODERS.get((self.index.codec, self.index.pix_fmt)):
                    context = av.CodecContext.create(name, "r")
                context.thread_count = 1
                context.options = _OPTIONS
                self._decoder = context
            stream = self._container.streams[self.index.stream_index]
        except (OSError, IndexError, av.error.FFmpegError) as error:
            raise UnreadableVideo(self.index.path, f"it could be read before: {error}") from error
        if keyframe > 0:
            try:
                self._container.seek(int(self.index.pts[keyframe]), stream=stream)
            except av.error.FFmpegError:  # damaged where the container keeps its index
                return self._seek(0)
            self._decoder.flush_buffers()
        return stream


class _Trust:
    """Which pictures the decoder's complaints concern.

    A complaint about a packet concerns its own picture and those decoded after it in the same GOP.
    Pictures that lead a keyframe (decoded behind it, shown before it) are a matter of their own:
    they build on the GOP before as well, and no other picture builds on them. So the complaints
    about them when decoding starts at this keyframe concern nobody else.
    """

    def __init__(self) -> None:
        self._keyframe_pts: int | None = None
        self._lost = False
        self._leading_lost = False
        # By pts, of packets whose pictures are still to come: whether they are not to trust.
        self._pending: dict[int, bool] = {}

    def expect(self, packet: Any) -> None:
        """A packet goes to the decoder."""
        if packet.is_keyframe:
            self._keyframe_pts = packet.pts
            self._lost, self._leading_lost = False, self._lost
        if packet.pts is not None:
            self._pending[packet.pts] = self._leading_lost if self._leads(packet) else self._lost
            if len(self._pending) > _MOST_PENDING:  # pictures that never came
                del self._pending[next(iter(self._pending))]

    def interrupt(self) -> None:
        """Packets are missing in front of the next one."""
        self._lost = self._leading_lost = True

    def lose(self, packet: Any) -> None:
        """The decoder complained about a packet."""
        if self._leads(packet):
            self._leading_lost = True
        else:
            self._lost = self._leading_lost = True
        if packet.pts is not None:
            self._pending[packet.pts] = True

    def is_lost(self, frame: av.VideoFrame) -> bool:
        """Whether a picture that came out is not to trust."""
        return self._lost if frame.pts is None else self._pending.pop(frame.pts, self._lost)

    def _leads(self, packet: Any) -> bool:
        return (
            packet.pts is not None
            and self._keyframe_pts is not None
            and packet.pts < self._keyframe_pts
        )
