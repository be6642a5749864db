"""The videos of a collection, and the names of their results.

Looks at names and at the status of files only; their content is read in `pvio.media.index`.
"""
