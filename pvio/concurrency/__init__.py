"""Threads and locks: prefetching, background work, timeouts, thread limits.

Knows nothing of videos, models or jobs.
"""
