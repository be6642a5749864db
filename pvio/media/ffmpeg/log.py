"""FFmpeg's log, the only place where its demuxers and decoders report damage."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Collection, Iterable, Iterator

import av.logging

# Level (as in `av.logging`), component such as "h264", and text.
LogMessage = tuple[int, str, str]

# How messages below the level of errors begin that report concealed damage.
_CONCEALMENT_PREFIXES = ("concealing ", "Skipping invalid ", "Failed to parse ")

# Errors about side information, by component, as FFmpeg 8 words them. They do not change the
# frame. Any other error counts as damage of the frame.
_SIDE_INFORMATION = {
    # h264_sei.c, h264_picture.c, h264_slice.c: supplemental enhancement information (SEI);
    # h264_ps.c: the rate in the video usability information (VUI).
    "h264": (
        r"SEI type \d+ |non-existing SPS \d+ referenced in buffering period|Picture timing SEI |"
        r"recovery_frame_cnt \d+ is out of range|Error processing (the|a) picture timing SEI|"
        r"time_scale/num_units_in_tick invalid|Truncated VUI |Overread VUI "
    ),
    # hevc/sei.c, dovi_rpudec.c; hevc/ps.c: the video parameter set, which no decoder of one layer
    # needs, and the VUI.
    "hevc": (
        r"SEI type \d+ |num_sps_ids_minus1 \d+ invalid|active_parameter_set_id \d+ invalid|"
        r"Error parsing DOVI |RPU |Overread VPS |VPS |vps_|Ignoring (unsupported )?VPS|PTL inf|"
        r"too many layer_id_included_flags|Strange VUI |Overread in VUI|"
        r"Invalid default display window|"
        # Units that FFmpeg skips, of types that are neither slices nor parameter sets.
        r"Skipping invalid undecodable NALU: (32|3[5-9]|[45]\d|6[0-3])\b"
    ),
    # mjpegdec.c: application segments, ICC profiles; exif.c.
    "mjpeg": (
        r"app: invalid len|unable to decode APP fields|mjpeg: error, decode_app parser read over|"
        r".*\bEXIF\b|.*\bIFD\b|.*\bICC\b"
    ),
    # pngdec.c, webp.c: text and EXIF.
    "png": r".*\bEXIF\b|.*\bIFD\b|.*\bICC\b|Broken \w+ chunk",
    "webp": r".*\bEXIF\b|.*\bIFD\b|.*\bICC",
    # dav1d: metadata, and unknown types of units.
    "libdav1d": r"Malformed ITU-T T.35|Malformed Metadata OBU|Unknown (Metadata )?OBU type",
}
_HARMLESS = {name: re.compile(pattern) for name, pattern in _SIDE_INFORMATION.items()}
_HARMLESS |= {"apng": _HARMLESS["png"], "libwebp": _HARMLESS["webp"]}


_lock = threading.Lock()
_listeners = 0
_before: tuple[int | None, bool, int] = (None, True, logging.NOTSET)


@contextlib.contextmanager
def capture_log() -> Iterator[list[LogMessage]]:
    """Collect FFmpeg's log messages of this thread, as a context manager.

    Repeated messages are included, and none reaches Python's log. FFmpeg has one log level per
    process: the first of several open contexts changes it, and the last one restores it.

    Yields:
        The messages so far; FFmpeg appends to the list.
    """
    _begin()
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        _end()


def _begin() -> None:
    global _listeners, _before
    with _lock:
        if not _listeners:
            logger = logging.getLogger("libav")
            _before = av.logging.get_level(), av.logging.get_skip_repeated(), logger.level
            if _before[0] != av.logging.INFO:
                av.logging.set_level(av.logging.INFO)
            av.logging.set_skip_repeated(False)
            logger.setLevel(logging.CRITICAL)
        _listeners += 1


def _end() -> None:
    global _listeners
    with _lock:
        _listeners -= 1
        if not _listeners:
            level, skip_repeated, of_logger = _before
            if level != av.logging.INFO:
                av.logging.set_level(level)
            av.logging.set_skip_repeated(skip_repeated)
            logging.getLogger("libav").setLevel(of_logger)


def indicates_damage(messages: Iterable[LogMessage], others: Collection[str] = ()) -> bool:
    """Whether one of the messages is an error, or reports damage that the decoder concealed.

    Args:
        messages: logged while one packet was decoded.
        others: components that belong to other streams, such as audio codecs; ignored.
    """
    return any(
        (level <= av.logging.ERROR or text.startswith(_CONCEALMENT_PREFIXES))
        and component not in others
        and not is_side_information(component, text)
        for level, component, text in messages
    )


def is_side_information(component: str, text: str) -> bool:
    """Whether a message is about side information, such as times, captions and EXIF.

    Args:
        component: of FFmpeg that logged it, such as "h264".
        text: of the message.
    """
    pattern = _HARMLESS.get(component)
    return pattern is not None and pattern.match(text) is not None
