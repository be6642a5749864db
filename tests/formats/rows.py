"""Which packets are frames: fields, hidden frames, changes of size."""

from __future__ import annotations

from formats import Case

CASES: list[Case] = []
