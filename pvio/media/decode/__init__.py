"""Frames of any source: the choice of a decoder, and what happens when it hangs or crashes.

The decoders themselves live in `pvio.media.decoders`.
"""
