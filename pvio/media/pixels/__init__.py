"""Samples of decoded frames: layout, planes, color, orientation, conversion to RGB or gray.

Knows no files, packets or encoders.
"""
