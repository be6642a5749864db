"""Frame rates and the order of frames, from what a stream states.

No tables of a whole video; those are made in `pvio.media.index`.
"""
