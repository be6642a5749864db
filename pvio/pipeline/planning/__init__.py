"""Plans: segments, their costs and shards, and the keys of their results.

Nothing here decodes frames or runs a model.
"""
