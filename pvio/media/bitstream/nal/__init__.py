"""Headers of H.264 and HEVC, which come in NAL units.

Other codecs live one package above.
"""
