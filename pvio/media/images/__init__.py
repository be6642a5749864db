"""Image files: one decoder per format, pages, damage, side information.

Which files belong to a sequence is decided in `pvio.collection`.
"""
