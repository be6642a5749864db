"""Samples and false alarms: packed formats, damaged side information."""

from __future__ import annotations

from formats import Case

CASES: list[Case] = []
