"""Images and folders of images."""

from __future__ import annotations

from formats import Case

CASES: list[Case] = []
