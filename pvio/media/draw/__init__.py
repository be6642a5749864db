"""Drawing on decoded YUV or gray planes, in place and without converting colors.

Knows shapes, glyphs and planes. Decoding and encoding live in other packages.
"""

from pvio.media.draw.canvas import Canvas

__all__ = ["Canvas"]
