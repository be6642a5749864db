"""When frames are shown: rates, time stamps and the order of frames."""

from __future__ import annotations

from formats import Case

CASES: list[Case] = []
