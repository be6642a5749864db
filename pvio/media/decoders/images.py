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
        UnreadableVideo: when the number of images differs from the index.
    """

    def __init__(self, index: FrameIndex):
        self.index = index
        self._files = [index.decode_path]
        if index.is_image_folder:
            try:
                self._files = image_files(index.decode_path)
            except OSError as error:
                reason = f"the folder cannot be read again: {error}"
                raise UnreadableVideo(index.path, reason) from error
        pages = index.pages or (1,) * index.n_frames
        if len(self._files) != len(pages):
            reason = (
                f"the folder has {len(self._files)} images; it had {len(pages)} when it was probed"
            )
            raise UnreadableVideo(index.path, reason)
        self._ends = np.cumsum(pages)
        self._open: tuple[int, ImageFile] | None = None
        self._scaler = VideoReformatter()

    def frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        """See `FrameReader.frames`.

        An image of another size is scaled to the size of most images. An image whose size is not
        in the index was changed after indexing, and is `corrupt`.
        """
        for number in range(start, stop):
            try:
                decoded = self._decoded(number)
            except _UNREADABLE:
                decoded = DecodedFrame(number, "missing", None)
            yield decoded
        self.close()

    def close(self) -> None:
        """Close the image file that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _decoded(self, number: int) -> DecodedFrame:
        frame = self._frame(number)
        size = (frame.height, frame.width)
        if size == (self.index.height, self.index.width):
            return DecodedFrame(number, self._status(number), frame)
        if size in self.index.other_sizes:
            return DecodedFrame(number, self._status(number), self._scaled(frame))
        return DecodedFrame(number, "corrupt", frame)

    def _status(self, number: int) -> Status:
        """The status of an image that could be read."""
        file = int(np.searchsorted(self._ends, number, side="right"))
        return "suspect" if jpeg_damage(self._files[file]) else "ok"

    def _frame(self, number: int) -> av.VideoFrame:
        file = int(np.searchsorted(self._ends, number, side="right"))
        if self._open is None or self._open[0] != file:
            self.close()
            self._open = (file, open_image(self._files[file]))
        image = self._open[1]
        page = number - (int(self._ends[file - 1]) if file else 0)
        return to_frame(image.read(page))

    def _scaled(self, frame: av.VideoFrame) -> av.VideoFrame:
        height, width = self.index.height, self.index.width
        shrinks = height * width < frame.height * frame.width
        method = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        return self._scaler.reformat(frame, width, height, interpolation=method, threads=1)
