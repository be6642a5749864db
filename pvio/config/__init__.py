"""The settings of a run: typed, with defaults and readable errors.

What follows from them is worked out elsewhere.
"""
