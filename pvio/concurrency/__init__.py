"""Threads, processes and locks: prefetching, timeouts, child processes, restarts, limits.

Knows nothing of videos, models or jobs.
"""
