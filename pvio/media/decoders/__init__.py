"""Decoders that deliver frames checked against the index: PyAV, NVDEC, torchcodec, images.

Which of them reads a source is chosen in `pvio.media.decode`.
"""
