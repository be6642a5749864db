"""Encoded segments, and videos concatenated from them: formats, encoders, audio, metadata.

What is drawn on frames is made in `pvio.media.draw`.
"""
