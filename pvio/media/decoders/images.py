"""Reading images: folders of them, and files of one or more pages."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pvio.collection.image_names import image_files
from pvio.errors import UnreadableVideo
from pvio.media.decoders.frame import DecodedFrame, Status
from pvio.media.images.files import ImageFile, open_image, to_frame
from pvio.media.images.jpeg_damage import jpeg_damage
from pvio.media.index.frame_index import FrameIndex

# ValueError and FFmpeg's: not every array can be a frame, or be scaled.
_UNREADABLE = (UnreadableVideo, OSError, ValueError, av.error.FFmpegError)


class ImageReader:
    """Reads the pages of images, the files in natural order of their names.

    Args:
        index: of an image folder or an image file.

    Raises:
        UnreadableVideo: when the folder has not as many images as were indexed.
    """

    def __init__(self, index: FrameIndex):
        self.index = index
        self._files = [index.decode_path]
        if index.is_image_folder:
            try:
                self._files = image_files(index.decode_path)
            except OSError as error:
                reason = f"it could be read before: {error}"
                raise UnreadableVideo(index.path, reason) from error
        pages = index.pages or (1,) * index.n_frames
        if len(self._files) != len(pages):
            reason = f"it has {len(self._files)} images, and had {len(pages)} when it was probed"
            raise UnreadableVideo(index.path, reason)
        self._ends = np.cumsum(pages)
        self._open: tuple[int, ImageFile] | None = None
        self._scaler = VideoReformatter()

    def frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        """See `FrameReader.frames`.

        An image of another size is scaled to the one that most have. Where the index does not know
        its size, the image has changed since, and is `corrupt`.
        """
        for rank in range(start, stop):
            try:
                decoded = self._decoded(rank)
            except _UNREADABLE:
                decoded = DecodedFrame(rank, "missing", None)
            yield decoded
        self.close()

    def close(self) -> None:
        """Close the image file that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _decoded(self, rank: int) -> DecodedFrame:
        frame = self._frame(rank)
        size = (frame.height, frame.width)
        if size == (self.index.height, self.index.width):
            return DecodedFrame(rank, self._status(rank), frame)
        if size in self.index.other_sizes:
            return DecodedFrame(rank, self._status(rank), self._scaled(frame))
        return DecodedFrame(rank, "corrupt", frame)

    def _status(self, rank: int) -> Status:
        """Whether an image that could be read is to be trusted."""
        number = int(np.searchsorted(self._ends, rank, side="right"))
        return "suspect" if jpeg_damage(self._files[number]) else "ok"

    def _frame(self, rank: int) -> av.VideoFrame:
        number = int(np.searchsorted(self._ends, rank, side="right"))
        if self._open is None or self._open[0] != number:
            self.close()
            self._open = (number, open_image(self._files[number]))
        image = self._open[1]
        page = rank - (int(self._ends[number - 1]) if number else 0)
        return to_frame(image.read(page))

    def _scaled(self, frame: av.VideoFrame) -> av.VideoFrame:
        height, width = self.index.height, self.index.width
        shrinks = height * width < frame.height * frame.width
        method = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        return self._scaler.reformat(frame, width, height, interpolation=method, threads=1)
