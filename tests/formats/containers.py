"""Containers, codecs without a decoder, and files that refer to others."""

from __future__ import annotations

from formats import Case

CASES: list[Case] = []
