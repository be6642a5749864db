"""A source: one video of the collection."""

from __future__ import annotations

from dataclasses import dataclass

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".ogv"),
        *(".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".mxf", ".h264", ".hevc", ".y4m"),
        # Camcorders, cameras and recorders of television and surveillance.
        *(".mod", ".tod", ".m2t", ".dv", ".dif", ".vob", ".vro", ".trp", ".tp", ".wtv"),
        # More containers.
        *(".asf", ".3g2", ".f4v", ".mp4v", ".mj2", ".qt", ".divx", ".xvid", ".nut"),
        *(".rm", ".rmvb", ".m2p", ".mpe", ".mpv", ".ismv"),
        # Streams without a container.
        *(".264", ".avc", ".265", ".h265", ".ivf", ".obu", ".m1v", ".m2v", ".mp2v"),
        *(".mjpeg", ".mjpg", ".h263"),
    }
)


@dataclass(frozen=True)
class Source:
    """One video of the collection.

    Attributes:
        path: absolute path of the file, or of the folder whose images are the frames; or a
            pattern of some of a folder's images, such as `/data/frames/cam1_*.png`.
        name: path of its results below `results/predictions` and `results/videos`, no ending.
        is_image_folder: whether `path` is a folder or a pattern of images.
    """

    path: str
    name: str
    is_image_folder: bool = False
