"""The options with which an encoder is opened."""

from __future__ import annotations

import functools
from pathlib import Path

from pvio.config.codecs import FALLBACK_PRESETS, CodecName
from pvio.config.output import OutputSettings

# Options that are lists of options themselves; those of a user are added to ours.
_LISTS = {"libx264": "x264-params", "libx265": "x265-params"}


def encoder_options(name: CodecName, settings: OutputSettings, threads: int) -> dict[str, str]:
    """Options by FFmpeg's names.

    Args:
        name: the encoder. A fallback for that of the settings gets none of their `options`,
            which are meant for the other.
        settings: `crf`, `preset` and `options` matter.
        threads: 1 for an encoder that uses one core and gives the same bytes on every machine.
    """
    options: dict[str, str] = {}
    inner: dict[str, str] = {}
    lossless = settings.crf == 0
    preset = settings.preset
    if name != settings.codec:
        preset = FALLBACK_PRESETS.get(preset, preset)
    if name == "libx264":
        options = {"preset": preset, "qp" if lossless else "crf": str(settings.crf)}
        inner = _repeatable()
    elif name == "libx265":
        options = {"preset": preset, **({} if lossless else {"crf": str(settings.crf)})}
        # Only what closed GOPs refer to is in their segment.
        inner = {"log-level": "error", "open-gop": "0", **({"lossless": "1"} if lossless else {})}
        if threads == 1:
            inner |= {"pools": "none", "frame-threads": "1"}
    elif name == "ffv1":
        # Version 3 with checksums, every frame a keyframe: what archives ask for (RFC 9043).
        options = {"level": "3", "slicecrc": "1", "g": "1"}
    elif lossless:
        options = {"preset": preset, "tune": "lossless", "rc": "constqp", "qp": "0"}
    else:
        options = {"preset": preset, "rc": "vbr", "cq": str(settings.crf)}
    users = {key: str(value) for key, value in settings.options.items()}
    if name != settings.codec:
        users = {}
    key = _LISTS.get(name, "")
    if inner:
        ours = ":".join(f"{option}={value}" for option, value in inner.items())
        users[key] = ":".join(filter(None, [ours, users.get(key, "")]))
    return options | users


@functools.cache
def _repeatable() -> dict[str, str]:
    """Options that make x264 give the same bytes for the same frames, run after run.

    Its AVX-512 code for macroblock trees does not (x264 in PyAV 18.1: 3 of 16 encodings of the
    same 60 frames differed); its AVX2 code does, at the same speed.
    """
    try:
        has_avx512 = " avx512f " in Path("/proc/cpuinfo").read_text()
    except OSError:
        has_avx512 = False
    return {"asm": "avx2"} if has_avx512 else {}
