"""Reading folders of images."""

from __future__ import annotations

from collections.abc import Iterator

from pvio.collection import image_files
from pvio.errors import UnreadableVideo
from pvio.media.decoded import Decoded
from pvio.media.images import read_image
from pvio.media.index import FrameIndex


class ImageFolderReader:
    """Reads a folder of images, sorted by name.

    Args:
        index: of an image folder.
        files: the images in the order of the frames, when it is not that of their names.
    """

    def __init__(self, index: FrameIndex, files: list[str] | None = None):
        self.index = index
        self._files = files if files is not None else image_files(index.location)

    def frames(self, start: int, stop: int) -> Iterator[Decoded]:
        """See `Reader.frames`; an image of another size than the first is `corrupt`."""
        for rank in range(start, stop):
            try:
                frame = read_image(self._files[rank])
            except (UnreadableVideo, IndexError):
                yield Decoded(rank, "missing", None)
                continue
            same = (frame.height, frame.width) == (self.index.height, self.index.width)
            yield Decoded(rank, "ok" if same else "corrupt", frame)

    def close(self) -> None:
        pass
