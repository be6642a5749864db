"""AV1 with conformance checks, which detect damage that the decoder otherwise ignores.

At the end of a tile the decoder must have used all data, up to a known padding (AV1 specification,
8.2.4). After a damaged byte this is practically never so. dav1d checks it only in strict mode,
where such a frame is an error. A second decoder, without the check, decodes the frame anyway.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import av
import numpy as np

from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.log import capture_log

# Of packets since the keyframe, which are decoded again after an error.
_MOST_KEPT_BYTES = 64 * 2**20
# Packets at the start of a file: usually more than an encoder puts between two keyframes.
_MOST_TRIED = 300


class StrictAv1Decoder:
    """Decodes like `av.CodecContext`, and reports frames that fail the check.

    After a failure both decoders continue to the next keyframe. The strict decoder has no frame, or
    an older one, where the other has the failed frame. So a frame that both decode to the same
    samples does not refer to the failed one, as long as the other decodes everything.

    Args:
        stream: AV1, of an open container.
        options: of the decoder.

    Attributes:
        has_error: whether the last packet failed, or refers to one that did.
    """

    def __init__(self, stream: Any, options: dict[str, str]):
        self._extradata = stream.codec_context.extradata
        self._options = options
        self._strict = _open(self._extradata, options, strict=True)
        self._lenient: Any = (
            None  # used from a failure to the next keyframe, in addition to the other
        )
        self._is_lost = False  # whether both decoders lack a frame since then
        self.has_error = False
        self._kept: list[Any] = []
        self._n_kept_bytes = 0

    def decode(self, packet: Any) -> list[av.VideoFrame]:
        """Frames that a packet completes; for None all remaining frames.

        Raises:
            av.error.FFmpegError: when it cannot be decoded without the check either.
        """
        if packet is None:
            return list(self._strict.decode(None))
        if packet.is_keyframe and packet.size:
            self._begin()
        if self._lenient is None and packet.size:
            self._keep(packet)
        frames = self._checked(packet)
        if frames is not None and self._lenient is None:
            self.has_error = False
            return frames
        try:
            others = self._unchecked(packet)
        except av.error.FFmpegError:
            self._is_lost = self.has_error = True
            raise
        self.has_error = self._is_lost or frames is None or not _are_same(frames, others)
        return others

    def _checked(self, packet: Any) -> list[av.VideoFrame] | None:
        """Frames of a packet that passes the check; None when it does not."""
        with capture_log():  # failures are reported by `has_error`
            try:
                return list(self._strict.decode(packet))
            except av.error.FFmpegError:
                return None

    def _unchecked(self, packet: Any) -> list[av.VideoFrame]:
        """Frames of a packet, decoded without the check from the keyframe on."""
        if self._lenient is None:
            self._lenient = _open(self._extradata, self._options, strict=False)
            for before in self._kept[:-1]:
                self._lenient.decode(before)
            self._kept = []
        return list(self._lenient.decode(packet))

    def flush_buffers(self) -> None:
        """Forget what was decoded, as after a seek."""
        self._strict.flush_buffers()
        self._begin()

    def _begin(self) -> None:
        if self._lenient is not None:
            self._strict.flush_buffers()
        self._lenient, self._is_lost = None, False
        self._kept, self._n_kept_bytes = [], 0

    def _keep(self, packet: Any) -> None:
        self._n_kept_bytes += packet.size
        if self._n_kept_bytes <= _MOST_KEPT_BYTES:
            self._kept.append(packet)
        else:
            self._kept = []


def _are_same(frames: list[av.VideoFrame], others: list[av.VideoFrame]) -> bool:
    """Whether two decoders return the same frames."""
    return len(frames) == len(others) and all(
        np.array_equal(frame.to_ndarray(), other.to_ndarray())
        for frame, other in zip(frames, others, strict=True)
    )


def passes_the_check(path: str, stream_index: int, options: dict[str, str]) -> bool:
    """Whether a frame at the start of an AV1 file passes the check.

    If no frame does, the encoder probably breaks the rule, and all frames would fail. The start of
    the file is used wherever decoding begins, so that the answer is always the same.
    """
    try:
        with open_container(path) as container:
            stream: Any = container.streams[stream_index]
            context = _open(stream.codec_context.extradata, options, strict=True)
            for packet in itertools.islice(container.demux(stream), _MOST_TRIED):
                with contextlib.suppress(av.error.FFmpegError):
                    if context.decode(packet):
                        return True
    except (OSError, IndexError, av.error.FFmpegError):
        pass
    return False


def _open(extradata: bytes | None, options: dict[str, str], strict: bool) -> Any:
    context: Any = av.CodecContext.create("libdav1d", "r")
    context.extradata = extradata
    context.thread_count = 1
    context.options = options | ({"strict": "1"} if strict else {})
    return context
