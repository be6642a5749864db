"""The frame index: which frames a video has, in presentation order."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pvio.media.pixels.orientation import Orientation


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The frames of one video.

    Attributes:
        path: the file, or the folder (or pattern) of images.
        digest: identifies the content, whatever the file is called and whenever it was touched.
        pts: int64, presentation time stamp of every frame in units of `time_base`, ascending.
        keyframes: int64, ranks of the frames at which decoding can start; the first is 0.
        time_base: seconds per unit of `pts`.
        rate: average frames per second, as the file states it; where its times are of another
            rate, that of the times, gaps left out.
        height, width: size of the upright picture in pixels, as a viewer sees it: that of most
            frames, where it changes; (0, 0) where no frame tells it.
        orientation: how the coded picture is turned to be upright.
        stream_index: the video stream within the container (FFmpeg's best stream).
        codec, pix_fmt, container: FFmpeg's names; codec is "images" for a folder of images, and
            "image" for an image file.
        sample_aspect_ratio: width of a pixel over its height.
        color: tags of the stream: range, matrix, primaries and transfer as ITU-T H.273 numbers
            (range: 0 untagged, 1 limited, 2 full; matrix, primaries, transfer: 2 is untagged).
        n_audio_streams: audio streams beside the video.
        timed: whether the time of a picture tells which frame it is. It does not in raw streams,
            in AVI with B-frames, where packets lack their times, where these start again, and where
            reordered frames share them: frames are then counted from the start, and times that are
            not known are filled in at a steady rate.
        open_gops: whether pictures refer to others in front of the keyframe they are behind.
        last_duration: of the last frame, in units of `time_base`; 0 where no container tells.
        damage: what is wrong with the container, such as an end before the promised one; mostly "".
        warning: what its user should know of a video that is all right, such as a stated rate that
            is not believed; mostly "".
        pages: of images, how many each file has; empty where each has one.
        other_sizes: (height, width) of upright frames that are scaled to the size of most frames.
        copy: of the file or folder, to be decoded in its place; mostly "".
    """

    path: str
    digest: str
    pts: np.ndarray
    keyframes: np.ndarray
    time_base: Fraction
    rate: Fraction
    height: int
    width: int
    orientation: Orientation
    stream_index: int
    codec: str
    pix_fmt: str
    container: str
    sample_aspect_ratio: Fraction
    color: tuple[int, int, int, int]
    n_audio_streams: int
    timed: bool = True
    open_gops: bool = False
    last_duration: int = 0
    damage: str = ""
    warning: str = ""
    pages: tuple[int, ...] = ()
    other_sizes: tuple[tuple[int, int], ...] = ()
    copy: str = ""

    @property
    def location(self) -> str:
        """What to open in order to decode: the copy, if there is one."""
        return self.copy or self.path

    @property
    def n_frames(self) -> int:
        return len(self.pts)

    @property
    def is_image_folder(self) -> bool:
        return self.codec == "images"

    @property
    def has_images(self) -> bool:
        """Whether frames are images, of a folder or a file, which hold neither tags nor sound."""
        return self.codec in ("images", "image")

    @property
    def has_size(self) -> bool:
        """Whether the size of the frames is known: no frame can be decoded otherwise."""
        return self.height > 0 and self.width > 0

    @property
    def times(self) -> np.ndarray:
        """float64, presentation time of every frame in seconds."""
        return self.pts * self.time_base.numerator / self.time_base.denominator

    @property
    def duration(self) -> float:
        """Seconds from the first frame's time to the end of the last one."""
        if self.n_frames == 0:
            return 0.0
        return float(self.times[-1] - self.times[0]) + float(self.last_seconds)

    @property
    def last_seconds(self) -> Fraction:
        """How long the last frame is shown; by the average rate where no container tells."""
        if self.last_duration:
            return self.last_duration * self.time_base
        return 1 / self.rate if self.rate else Fraction(0)

    @property
    def needs_preroll(self) -> bool:
        """Whether a decoder that starts at a keyframe misses pictures before it, and says so.

        HEVC decoders know which pictures cannot be decoded then, and leave them out.
        """
        return self.open_gops and self.codec != "hevc"

    def keyframe_at_or_before(self, rank: int) -> int:
        """Rank of the last keyframe at or before `rank`."""
        return int(self.keyframes[np.searchsorted(self.keyframes, rank, side="right") - 1])
