"""Reading with torchcodec: RGB only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pvio.errors import PvioError
from pvio.media.decoders.frame import DecodedFrame
from pvio.media.decoders.pyav import PyAVReader
from pvio.media.ffmpeg.container import absolute_path
from pvio.media.ffmpeg.log import capture_log, indicates_damage
from pvio.media.index.frame_index import FrameIndex

# Frames asked of torchcodec in one call.
_CHUNK = 32


def open_torchcodec(index: FrameIndex) -> TorchcodecReader | None:
    """A reader for the video, None where torchcodec cannot read it exactly.

    This is so if timestamps are absent or repeated, if GOPs are open, if frames are stored mirrored
    or in several sizes, for some edit lists, and if it cannot open the file or decode its start.

    Raises:
        PvioError: when torchcodec cannot be loaded, with the reason.
    """
    decoder = _decoder_class()
    if (
        not index.pts_identify_frames
        or index.needs_preroll
        or index.orientation.mirrored
        or index.other_sizes
        or (np.diff(index.pts) <= 0).any()
    ):
        return None
    try:
        reader = TorchcodecReader(index, decoder)
        return reader if reader.agrees() else None
    except (RuntimeError, ValueError, IndexError):
        return None


def _decoder_class() -> Any:
    try:
        import torchcodec.decoders
    except (ImportError, RuntimeError, OSError) as error:
        raise PvioError(
            "torchcodec cannot be loaded, most often because FFmpeg's shared libraries are not "
            "found: use decoder: pyav, install FFmpeg, or see `pvio doctor`"
        ) from error
    decoders: Any = torchcodec.decoders
    return decoders.VideoDecoder


class TorchcodecReader:
    """Decodes with torchcodec; every frame's timestamp is compared with the index.

    torchcodec delivers the next frame instead of a damaged one, and does not report the decoder's
    errors. So PyAV decodes up to the next keyframe, and determines the status, if packets look
    damaged, times differ, torchcodec raises or FFmpeg logs an error. FFmpeg's log is available when
    torchcodec uses PyAV's FFmpeg, as it does if the system has none.

    Args:
        index: of a video file.
        decoder: torchcodec's class.
    """

    def __init__(self, index: FrameIndex, decoder: Any):
        self.index = index
        self._fallback = PyAVReader(index)
        self._decoder = decoder(
            absolute_path(index.decode_path),
            stream_index=index.stream_index,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
        )

    def agrees(self) -> bool:
        """Whether torchcodec counts the same frames from the same start as the index.

        It does not for some files with an edit list: torchcodec 0.13 does not count discarded
        frames, but returns them.
        """
        if len(self._decoder) != self.index.n_frames:
            return False
        first = self._decoder.get_frame_at(0).pts_seconds
        return bool(abs(first - self.index.times[0]) < float(self.index.time_base) / 2)

    def frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        """See `FrameReader.frames`."""
        damaged = self._fallback.damaged_gops(start, stop)
        at = start
        while at < stop:
            keyframe = self.index.keyframe_at_or_before(at)
            gop_end = min(self.index.next_keyframe(at), stop)
            # Chunks are counted from the keyframe, so that they do not depend on `start`.
            end = min(at + _CHUNK - (at - keyframe) % _CHUNK, gop_end)
            chunk = None if keyframe in damaged else self._decode(at, end)
            if chunk is None:
                yield from self._fallback.frames(at, gop_end)
                at = gop_end
            else:
                for number, pixels in zip(range(at, end), chunk, strict=True):
                    yield DecodedFrame(number, "ok", pixels)
                at = end

    def close(self) -> None:
        """Close the decoders."""
        self._fallback.close()

    def _decode(self, first: int, last: int) -> np.ndarray | None:
        """Pixels N×H×W×3 of the frames `[first, last)`; None if any may be wrong."""
        with capture_log() as messages:
            try:
                batch = self._decoder.get_frames_in_range(first, last)
            except (RuntimeError, IndexError):
                return None
        expected = self.index.times[first:last]
        off = np.abs(batch.pts_seconds.numpy() - expected)
        if indicates_damage(messages) or (off >= float(self.index.time_base) / 2).any():
            return None
        pixels: np.ndarray = batch.data.cpu().numpy()
        return pixels
