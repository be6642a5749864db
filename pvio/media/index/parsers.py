"""The choice of a parser for the packets of a stream."""

from __future__ import annotations

from collections.abc import Callable

from pvio.media.bitstream.av1 import Av1Parser
from pvio.media.bitstream.intra import JpegParser, PngParser, ProresParser
from pvio.media.bitstream.mpeg2 import Mpeg2Parser
from pvio.media.bitstream.mpeg4 import Mpeg4Parser
from pvio.media.bitstream.nal.parser import NalParser
from pvio.media.bitstream.packet_kinds import PacketParser
from pvio.media.bitstream.vpx import Vp8Parser, Vp9Parser

_PARSERS: dict[str, Callable[[bytes], PacketParser]] = {
    "h264": NalParser,
    "hevc": lambda extradata: NalParser(extradata, "hevc"),
    "vp8": Vp8Parser,
    "vp9": Vp9Parser,
    "av1": Av1Parser,
    "mpeg1video": Mpeg2Parser,
    "mpeg2video": Mpeg2Parser,
    "mpeg4": Mpeg4Parser,
    "mjpeg": JpegParser,
    "prores": ProresParser,
    "png": PngParser,
}


def parser_for(codec: str, extradata: bytes | None) -> PacketParser | None:
    """A parser of a stream's packets; None for codecs of which every packet is a frame.

    Args:
        codec: FFmpeg's name.
        extradata: the stream's decoder configuration.
    """
    parser = _PARSERS.get(codec)
    try:
        return parser and parser(extradata or b"")
    except (EOFError, IndexError):  # a damaged configuration
        return parser and parser(b"")
