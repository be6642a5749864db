"""The frame index: which frames a video has, in presentation order, read from its packets.

"Frame i" means rank i in this index, everywhere in pvio. Nothing is decoded to count frames; one
picture is decoded to learn the display orientation.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import stat
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pvio.cache.store import Store, StoreError, file_digest, make_key
from pvio.collection import Source
from pvio.collection.image_names import image_files, is_image_name, is_sequence
from pvio.errors import UnreadableVideo
from pvio.media.containers.file_kind import what_it_is
from pvio.media.containers.structure import container_damage
from pvio.media.ffmpeg.best_stream import video_stream
from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.log import listen
from pvio.media.images.survey import survey_images
from pvio.media.index.frame_sizes import frame_sizes, words_of_sizes
from pvio.media.index.limits import check_declared_frames
from pvio.media.index.packets import read_packets
from pvio.media.pixels.orientation import Orientation, display_orientation
from pvio.media.timing.rates import DEFAULT_RATE, average_rate, is_believable

log = logging.getLogger(__name__)

# Streams without a container, which FFmpeg takes by the ending whatever is in the file.
_BY_NAME = frozenset(
    {
        *("m4v", "mjpeg", "h263", "h264", "hevc", "vvc", "evc", "mpegvideo", "obu", "vc1"),
        *("cavsvideo", "dirac", "avs2", "avs3"),
    }
)
SCHEMA = 13


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
    def starts_are_unclean(self) -> bool:
        """Whether a decoder that starts at a keyframe misses pictures before it, and says so.

        HEVC decoders know which pictures cannot be decoded then, and leave them out.
        """
        return self.open_gops and self.codec != "hevc"

    def keyframe_before(self, rank: int) -> int:
        """Rank of the last keyframe at or before `rank`."""
        return int(self.keyframes[np.searchsorted(self.keyframes, rank, side="right") - 1])


def load_index(source: Source | str | os.PathLike[str], store: Store | None = None) -> FrameIndex:
    """The index of a video: from the store if it is there, else built and stored.

    Raises:
        UnreadableVideo: when the file is absent, is no video, or has no picture.
    """
    if not isinstance(source, Source):
        source = Source(str(source), "", os.path.isdir(source) or is_sequence(source))
    if store is None:
        return build_index(source)
    try:
        key, _ = facts_of_stored(source, store)
        return unpack_index(*store.read("index", key), source.path)
    except StoreError as error:
        if store.has("index", index_key(source)):
            log.warning("%s; the index of %s is built again", error, source.path)
        return index_anew(source, store)[0]


def index_anew(source: Source, store: Store) -> tuple[FrameIndex, str, dict[str, Any]]:
    """Build the index of a video and store it.

    Returns:
        The index, its key and the facts in the store.

    Raises:
        UnreadableVideo: see `load_index`; also when it changes in the meantime.
    """
    key, changed_ns = before = _identity(source)
    index = build_index(source)
    if _identity(source) != before:
        raise UnreadableVideo(source.path, "it changes while it is read: it is being written")
    payload, facts = pack_index(index)
    facts |= {"changed_ns": changed_ns}
    store.write("index", key, payload, facts)
    return index, key, facts


def facts_of_stored(
    source: Source, store: Store, *, renew: bool = True, compare: bool = True
) -> tuple[str, dict[str, Any]]:
    """Key and facts of a video's index in the store, without the index itself.

    A file of the same path, size and modification time is read whole when its status has changed
    since, which clocks do not undo: its content must be the same.

    Args:
        source: the video.
        store: with indexes.
        renew: whether to note the new status in the store.
        compare: whether to read such a file; else its index counts as missing.

    Raises:
        StoreError: when there is no index of the file as it is.
        UnreadableVideo: when there is no such file.
    """
    key, changed_ns = _identity(source)
    facts = store.info("index", key)
    if facts["changed_ns"] != changed_ns:
        if not compare or facts["content"] != content_digest(source):
            raise StoreError(f"{source.path} has another content, at the same size and time")
        if renew:
            payload, facts = store.read("index", key)
            store.write("index", key, payload, facts | {"changed_ns": changed_ns})
    return key, facts


def content_digest(source: Source) -> str:
    """What identifies the content of a video: of all its bytes, or those of all its images.

    Of the whole file: a repaired one must not keep the results of its broken copy.
    """
    try:
        return combined_digest(source, file_digest)
    except OSError as error:
        raise UnreadableVideo(source.path, _reason(error)) from error


def combined_digest(source: Source, digest_of: Callable[[str], str]) -> str:
    """`content_digest`, of the digests that a function returns for a file, or for each image."""
    if not source.is_image_folder:
        return digest_of(source.path)
    digest = hashlib.blake2b(digest_size=16)
    for file in image_files(source.path):
        name = os.path.basename(file).encode("utf-8", "surrogateescape")
        try:
            of_file = digest_of(file)
        except OSError:  # costs its row alone
            of_file = "unreadable"
        digest.update(name + b"\0" + of_file.encode() + b"\n")
    return digest.hexdigest()


def index_key(source: Source) -> str:
    """Key of the index in the store: resolved path, size and modification time.

    Raises:
        UnreadableVideo: when there is no such file.
    """
    return _identity(source)[0]


def _identity(source: Source) -> tuple[str, int]:
    """`index_key`, and when the status of the file, or of any image, changed last, in ns."""
    try:
        if source.is_image_folder:
            facts = []
            content: Any = []
            for path in image_files(source.path):
                each = _stat_or_none(path)
                stamp = f"{each.st_size}:{each.st_mtime_ns}" if each else "absent"
                content.append([os.path.basename(path), stamp])
                facts += [each] if each else []
        else:
            facts = [os.stat(source.path)]
            content = [facts[0].st_size, facts[0].st_mtime_ns]
    except OSError as error:
        raise UnreadableVideo(source.path, _reason(error)) from error
    key = make_key(index=SCHEMA, path=_real_path(source.path), content=content)
    return key, max((each.st_ctime_ns for each in facts), default=0)


def _stat_or_none(path: str) -> os.stat_result | None:
    """`os.stat` of an image; None for a broken link, which costs its row alone."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _real_path(path: str) -> str:
    """`os.path.realpath`, with a look at each folder once for all of its files."""
    folder, name = os.path.split(os.path.abspath(path))
    whole = os.path.join(_real_folder(folder), name)
    return os.path.realpath(whole) if os.path.islink(whole) else whole


@functools.lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def build_index(source: Source) -> FrameIndex:
    """Build the index of a video file, an image file or an image folder, see `load_index`."""
    if source.is_image_folder or is_image_name(source.path):
        return _index_images(source)
    return _index_video(source.path)


def pack_index(index: FrameIndex) -> tuple[bytes, dict[str, Any]]:
    """Payload and facts of the index as a store entry."""
    numbers = np.concatenate([index.pts, index.keyframes]).astype("<i8")
    facts = {
        field.name: getattr(index, field.name)
        for field in fields(index)
        if field.name not in ("pts", "keyframes", "path", "digest", "copy")
    }
    facts |= {name: str(value) for name, value in facts.items() if isinstance(value, Fraction)}
    facts |= {"orientation": asdict(index.orientation), "content": index.digest}
    facts |= {"n_frames": index.n_frames, "duration": index.duration}
    return zlib.compress(numbers.tobytes(), 1), facts


def unpack_index(payload: bytes, facts: dict[str, Any], path: str) -> FrameIndex:
    """The index from a store entry."""
    numbers = np.frombuffer(zlib.decompress(payload), "<i8").astype(np.int64)
    pts, keyframes = np.split(numbers, [facts["n_frames"]])
    names = {field.name for field in fields(FrameIndex)}
    plain = {name: value for name, value in facts.items() if name in names}
    for name in ("time_base", "rate", "sample_aspect_ratio"):
        plain[name] = Fraction(plain[name])
    plain |= {"orientation": Orientation(**facts["orientation"]), "digest": facts["content"]}
    plain |= {"color": tuple(facts["color"]), "pages": tuple(facts.get("pages", ()))}
    plain |= {"other_sizes": tuple((height, width) for height, width in facts["other_sizes"])}
    return FrameIndex(**(plain | {"path": path, "pts": pts, "keyframes": keyframes}))


def _index_video(path: str) -> FrameIndex:
    try:
        _check_file(path)
        check_declared_frames(path)
        with listen() as messages, open_container(path) as container:
            is_sure = container.streams.video and container.format.name not in _BY_NAME
            if not is_sure and (other := what_it_is(path)):
                raise UnreadableVideo(path, other)
            stream: Any = video_stream(path, container, messages)
            found = read_packets(path, container, stream)
            packets, timed, lost = found.table, found.timed, found.damage
            n_corrupt = int(packets["corrupt"].sum())
            damage = container_damage(path, container.format.name, messages, n_corrupt) or lost
            shown = packets[~packets["discard"]]
            if len(shown) == 0:
                raise UnreadableVideo(path, "the video stream has no frame")
            order = np.argsort(shown["pts"], kind="stable")
            pts = shown["pts"][order]
            # Where times do not tell the frames apart, decoding has to start at the first one.
            keyframes = np.flatnonzero(shown["key"][order] & timed)
            orientation = display_orientation(path, stream, found.first)
            context = stream.codec_context
            sizes = frame_sizes(found, stream).upright(orientation)
            height, width = sizes.size
            last_duration = int(shown["duration"][order[-1]]) if timed else 0
            rate, warning = found.rate, found.warning
            if rate is None:
                rate = average_rate(stream, pts, last_duration)
                if not is_believable(rate):
                    warning = (
                        f"its times are of {float(rate):.8g} frames per second; no camera has that"
                    )
            warnings = (warning, words_of_sizes(sizes, len(pts)))
            return FrameIndex(
                path=path,
                digest=content_digest(Source(path, "")),
                pts=pts,
                keyframes=np.union1d([0], keyframes).astype(np.int64),
                time_base=Fraction(stream.time_base),
                rate=Fraction(rate),
                height=height,
                width=width,
                orientation=orientation,
                stream_index=stream.index,
                codec=context.codec.canonical_name,
                pix_fmt=sizes.pix_fmt,
                container=container.format.name,
                sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 1) or Fraction(1),
                color=(
                    context.color_range,
                    context.colorspace,
                    context.color_primaries,
                    context.color_trc,
                ),
                n_audio_streams=len(container.streams.audio),
                timed=timed,
                open_gops=_has_leading_pictures(packets) or bool(packets["unclean"][1:].any()),
                last_duration=last_duration,
                damage=damage,
                other_sizes=sizes.others,
                warning="; ".join(filter(None, warnings)),
            )
    except MemoryError as error:
        raise UnreadableVideo(path, "its index takes more memory than there is") from error
    except OverflowError as error:
        raise UnreadableVideo(path, "its times are damaged: no clock counts so far") from error
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableVideo(path, _reason(error, path)) from error


def _has_leading_pictures(packets: np.ndarray) -> bool:
    """Whether a keyframe but the first is followed, in decoding order, by an earlier picture."""
    positions = np.flatnonzero(packets["key"])
    if len(positions) < 2:
        return False
    group = np.cumsum(packets["key"]) - 1
    behind = group > 0
    keyframe_pts = packets["pts"][positions][group[behind]]
    return bool((packets["pts"][behind] < keyframe_pts).any())


def _index_images(source: Source) -> FrameIndex:
    files = [source.path]
    try:
        if source.is_image_folder:
            files = image_files(source.path)
        else:
            _check_file(source.path)
    except OSError as error:
        raise UnreadableVideo(source.path, _reason(error)) from error
    if not files:
        raise UnreadableVideo(source.path, "the folder holds no image")
    found = survey_images(source.path, files)
    pts = np.arange(found.n_frames, dtype=np.int64)
    rate, last_duration = found.rate or Fraction(DEFAULT_RATE), 0
    time_base = 1 / rate
    if found.durations:
        pts = np.cumsum([0, *found.durations[:-1]], dtype=np.int64)
        time_base, last_duration = Fraction(1, 1000), found.durations[-1]
    return FrameIndex(
        path=source.path,
        digest=content_digest(source),
        pts=pts,
        keyframes=np.array(found.starts, dtype=np.int64),
        time_base=time_base,
        rate=rate,
        height=found.height,
        width=found.width,
        orientation=Orientation(),  # images are turned when they are read, each by its own
        stream_index=0,
        codec="images" if source.is_image_folder else "image",
        pix_fmt="gray" if found.is_gray else "rgb24",
        container=Path(files[0]).suffix.lstrip(".").lower(),
        sample_aspect_ratio=Fraction(1),
        color=(1, 1, 1, 1),
        n_audio_streams=0,
        last_duration=last_duration,
        damage=found.damage,
        warning=found.warning,
        pages=() if found.n_frames == len(files) else found.pages,
        other_sizes=found.other_sizes,
    )


def _check_file(path: str) -> None:
    """Refuse what cannot be read again, and what is empty.

    Raises:
        OSError: when there is no such file.
        UnreadableVideo: saying what it is.
    """
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):  # reading a pipe or a device might never end
        raise UnreadableVideo(path, "it is no file that can be read again")
    if facts.st_size == 0:
        raise UnreadableVideo(path, "the file is empty")


def _reason(error: Exception, path: str | None = None) -> str:
    text = getattr(error, "strerror", None) or str(error)
    is_no_video = isinstance(error, (av.error.InvalidDataError, av.error.ArgumentError))
    if is_no_video and path and (found := what_it_is(path)):
        return found
    if isinstance(error, av.error.InvalidDataError):
        if "moov atom not found" in str(error.log) and _is_mp4(path):
            return (
                "its list of frames (moov) is missing: recording or copying was cut short; a tool "
                "such as untrunc may restore it"
            )
        return "no video, or its header is damaged (FFmpeg: " + text + ")"
    return text[0].lower() + text[1:] if text else type(error).__name__


def _is_mp4(path: str | None) -> bool:
    """Whether a file begins like MP4 or MOV, whatever it is called."""
    with contextlib.suppress(OSError), Path(path or "").open("rb") as file:
        return file.read(8)[4:] in (b"ftyp", b"mdat", b"free", b"wide", b"skip")
    return False
