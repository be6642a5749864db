"""Reading with torchcodec: RGB only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pvio.errors import PvioError
from pvio.media.decoded import Decoded
from pvio.media.index import FrameIndex

# Frames asked of torchcodec in one call.
_CHUNK = 32


class TorchcodecReader:
    """Decodes with torchcodec; every frame's time stamp is compared with the index.

    torchcodec delivers the next frame in place of a damaged one; the comparison finds that, and
    the damaged frame is `missing`.

    Args:
        index: of a video file.

    Raises:
        PvioError: when torchcodec cannot be loaded, saying why.
    """

    def __init__(self, index: FrameIndex):
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, RuntimeError, OSError) as error:
            raise PvioError(
                "torchcodec cannot be loaded, most often because FFmpeg's shared libraries are not "
                "found: use decoder: pyav, install FFmpeg, or see `pvio doctor`"
            ) from error
        self.index = index
        self._decoder = VideoDecoder(
            index.path,
            stream_index=index.stream_index,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
        )

    def agrees(self) -> bool:
        """Whether torchcodec counts the same frames from the same start as the index.

        It does not for some files with an edit list: torchcodec 0.13 scans away the discarded
        pictures, but returns them.
        """
        if len(self._decoder) != self.index.n_frames:
            return False
        first = self._decoder.get_frame_at(0).pts_seconds
        return abs(first - self.index.times[0]) < float(self.index.time_base) / 2

    def frames(self, start: int, stop: int) -> Iterator[Decoded]:
        """See `Reader.frames`."""
        pts = self.index.pts
        tick = float(self.index.time_base)
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            for rank, seconds, picture in self._decode(first, last):
                same = abs(seconds - pts[rank] * tick) < tick / 2
                yield Decoded(rank, "ok", picture) if same else Decoded(rank, "missing", None)

    def close(self) -> None:
        pass

    def _decode(self, first: int, last: int) -> Iterator[tuple[int, float, np.ndarray]]:
        """Pictures with their times; NaN where decoding raised."""
        try:
            batch = self._decoder.get_frames_in_range(first, last)
            pictures, times = batch.data.cpu().numpy(), batch.pts_seconds.tolist()
        except (RuntimeError, IndexError):
            if last - first > 1:
                for rank in range(first, last):
                    yield from self._decode(rank, rank + 1)
            else:
                empty = np.empty((self.index.height, self.index.width, 3), np.uint8)
                yield first, float("nan"), empty
            return
        yield from zip(range(first, last), times, pictures, strict=True)
