"""AV1 with the checks of conformance, which notice what the decoder else passes over.

At the end of a tile its decoder must have used up the data, up to a padding that is known
(AV1 specification, 8.2.4). After a damaged byte it practically never has. dav1d looks at this in
its strict mode alone, where such a picture is an error; it is decoded again without the check, so
that there is a picture all the same.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import av

from pvio.media.container import open_container

# Of packets since the keyframe, which are decoded again after an error.
_MOST_KEPT_BYTES = 64 * 2**20
# Packets at the start of a file: more than an encoder has between two keyframes, mostly.
_MOST_TRIED = 300


class StrictAv1Decoder:
    """Decodes like `av.CodecContext`, and tells of pictures that fail the check.

    Args:
        stream: AV1, of an open container.
        options: of the decoder.

    Attributes:
        complained: whether the last packet, or one before it since the keyframe, failed.
    """

    def __init__(self, stream: Any, options: dict[str, str]):
        self._extradata = stream.codec_context.extradata
        self._options = options
        self._strict = _open(self._extradata, options, strict=True)
        self._lenient: Any = None  # from a failure to the next keyframe
        self._kept: list[Any] = []
        self._n_kept_bytes = 0

    @property
    def complained(self) -> bool:
        return self._lenient is not None

    def decode(self, packet: Any) -> list[av.VideoFrame]:
        """Frames that a packet completes; all that are left for None.

        Raises:
            av.error.FFmpegError: when it cannot be decoded without the check either.
        """
        if packet is None:
            return list((self._lenient or self._strict).decode(None))
        if packet.is_keyframe and packet.size:
            self._begin()
        if self._lenient is not None:
            return list(self._lenient.decode(packet))
        if packet.size:
            self._keep(packet)
        try:
            return list(self._strict.decode(packet))
        except av.error.FFmpegError:
            if not self._kept:
                raise
            return self._again()

    def flush_buffers(self) -> None:
        """Forget what was decoded, as after a seek."""
        self._strict.flush_buffers()
        self._begin()

    def _begin(self) -> None:
        if self._lenient is not None:
            self._strict.flush_buffers()
        self._lenient, self._kept, self._n_kept_bytes = None, [], 0

    def _keep(self, packet: Any) -> None:
        self._n_kept_bytes += packet.size
        if self._n_kept_bytes <= _MOST_KEPT_BYTES:
            self._kept.append(packet)
        else:
            self._kept = []

    def _again(self) -> list[av.VideoFrame]:
        """Frames of the last packet, decoded from the keyframe on without the check."""
        self._lenient = _open(self._extradata, self._options, strict=False)
        *before, last = self._kept
        self._kept = []
        for packet in before:
            self._lenient.decode(packet)
        return list(self._lenient.decode(last))


def keeps_the_rule(path: str, stream_index: int, options: dict[str, str]) -> bool:
    """Whether a picture at the start of an AV1 file passes the check.

    Where none does, the encoder is taken to be one that breaks the rule: all would fail. It is the
    start of the file that counts, wherever decoding is to begin, so that the answer is always the
    same.
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
