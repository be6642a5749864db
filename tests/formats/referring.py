"""Files that refer to other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from formats import Case

CONCAT = "ffconcat version 1.0\nfile {target}\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
REFUSED = "unreadable; the reason names the format. The files that it refers to are not read"


def referring(text: str) -> Callable[[Any, Path], None]:
    """A maker of a text that refers to an existing video next to it."""

    def make(ffmpeg: Any, path: Path) -> None:
        target = path.with_name("target.mp4")
        ffmpeg.run(
            *("-v", "error", "-f", "lavfi", "-i", "testsrc2=size=32x32:rate=25"),
            *("-frames:v", "5", "-pix_fmt", "yuv420p", target),
        )
        path.write_text(text.format(target=target))

    return make


def refused(name: str, what: str, text: str, reason: str, convert: str) -> Case:
    return Case(name, what, referring(text), REFUSED, 0, reason=reason, convert=convert)


CASES: list[Case] = [
    refused(
        "ffconcat.mp4",
        "FFmpeg's list of files (ffconcat), named as a video",
        CONCAT,
        r"playlist \(ffconcat\)",
        "ffmpeg -f concat -safe 0 -i in.mp4 -c copy out.mp4",
    ),
    refused(
        "playlist.m3u8",
        "HLS playlist",
        HLS,
        r"playlist \(HLS",
        "ffmpeg -i in.m3u8 -c copy out.mp4",
    ),
    refused(
        "stream.sdp",
        "description of a network stream (SDP)",
        SDP,
        r"network stream \(SDP\)",
        "ffmpeg -protocol_whitelist file,rtp,udp -i in.sdp -c copy out.mp4",
    ),
]
