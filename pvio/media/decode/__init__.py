"""Frames of any source: the choice of a decoder, and protection against hangs and crashes.

The decoders themselves are in `pvio.media.decoders`.
"""
