"""One job of a shard: its child process, staging of videos, progress, log and signals.

What it computes is given to it by a stage.
"""
