"""The frame index: the frames of a video, in presentation order."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pvio.media.pixels.color import ColorTags
from pvio.media.pixels.orientation import Orientation


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The frames of one video, in presentation order.

    Attributes:
        path: the file, or the folder (or pattern) of images.
        content_digest: identifies the content, independent of the file's name and times.
        pts: int64, presentation time stamp of every frame in units of `time_base`, ascending.
        keyframes: int64, numbers of the frames at which decoding can start; the first is 0.
        time_base: seconds per unit of `pts`.
        average_rate: frames per second, as the file states it. Where its time stamps show another
            rate, theirs without gaps.
        height, width: size in pixels after rotation for display, that of most frames where it
            changes; (0, 0) where no frame shows it.
        orientation: how coded frames are rotated for display.
        stream_index: the video stream within the container (FFmpeg's best stream).
        codec, pix_fmt, container: FFmpeg's names; codec is "images" for a folder of images, and
            "image" for an image file.
        sample_aspect_ratio: width of a coded pixel over its height.
        color: tags of the stream.
        n_audio_streams: audio streams next to the video.
        pts_identify_frames: whether the time stamp of a decoded frame identifies it. It does not
            in raw streams, in AVI with B-frames, where packets lack time stamps, where these
            restart, and where reordered frames share them. Frames are then counted from the
            start, and missing time stamps are filled in at a steady rate.
        open_gops: whether frames after a keyframe refer to frames before it.
        last_duration: of the last frame, in units of `time_base`; 0 where no container states it.
        damage: what is wrong with the container, such as an early end; mostly "".
        warning: about a video that can be read, such as a stated rate that is not plausible;
            mostly "".
        pages: of images, how many each file has; empty where each has one.
        other_sizes: (height, width) of frames that are scaled to the size of most frames.
        staged_path: copy of the file or folder that is decoded instead; mostly "".
    """

    path: str
    content_digest: str
    pts: np.ndarray
    keyframes: np.ndarray
    time_base: Fraction
    average_rate: Fraction
    height: int
    width: int
    orientation: Orientation
    stream_index: int
    codec: str
    pix_fmt: str
    container: str
    sample_aspect_ratio: Fraction
    color: ColorTags
    n_audio_streams: int
    pts_identify_frames: bool = True
    open_gops: bool = False
    last_duration: int = 0
    damage: str = ""
    warning: str = ""
    pages: tuple[int, ...] = ()
    other_sizes: tuple[tuple[int, int], ...] = ()
    staged_path: str = ""

    @property
    def decode_path(self) -> str:
        """The path to decode from: that of the staged copy, if there is one."""
        return self.staged_path or self.path

    @property
    def n_frames(self) -> int:
        """Number of frames that the video shows."""
        return len(self.pts)

    @property
    def is_image_folder(self) -> bool:
        """Whether `path` is a folder or a pattern of images."""
        return self.codec == "images"

    @property
    def has_images(self) -> bool:
        """Whether frames are images, of a folder or a file; these have neither tags nor audio."""
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
        """Seconds that the last frame is shown; one frame period if no container states it."""
        if self.last_duration:
            return self.last_duration * self.time_base
        return 1 / self.average_rate if self.average_rate else Fraction(0)

    @property
    def needs_preroll(self) -> bool:
        """Whether a decoder that starts at a keyframe logs errors about frames before it.

        HEVC decoders know which frames cannot be decoded then, and leave them out.
        """
        return self.open_gops and self.codec != "hevc"

    def keyframe_at_or_before(self, number: int) -> int:
        """Number of the last keyframe at or before frame `number`."""
        return int(self.keyframes[np.searchsorted(self.keyframes, number, side="right") - 1])

    def next_keyframe(self, number: int) -> int:
        """Number of the first keyframe after frame `number`; `n_frames` where there is none."""
        at = int(np.searchsorted(self.keyframes, number, side="right"))
        return int(self.keyframes[at]) if at < len(self.keyframes) else self.n_frames
