"""Which videos there are, and what their results are called.

Looks at names and at the status of files only; their content is read in `pvio.media.index`.
"""
