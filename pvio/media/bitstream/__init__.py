"""Headers of coded frames, by codec: which packets are frames, of which size and order.

No decoding, and no containers.
"""
