"""Calls with a timeout: values, errors, calls that hang, and calls that show that they work."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pvio.media.index.cached
import pvio.media.index.frame_geometry
from pvio.concurrency.prefetch import StallTimeout
from pvio.concurrency.timeout import call_with_timeout, keep_reporting, report_progress
from pvio.errors import UnreadableVideo
from pvio.media.index.cached import load_index


def test_a_value_comes_back_and_errors_do_too():
    assert call_with_timeout(lambda: 3, 10) == 3
    with pytest.raises(ValueError, match="no such thing"):
        call_with_timeout(lambda: int_of("no such thing"), 10)
    assert call_with_timeout(lambda: 4, 10) == 4


def int_of(text: str) -> int:
    raise ValueError(text)


def test_no_thread_stays():
    helper = call_with_timeout(threading.current_thread, 10)
    assert helper is not threading.current_thread()
    assert not helper.is_alive()


def test_a_call_that_hangs_is_left_and_the_next_one_is_made():
    goes_on = threading.Event()
    began = time.monotonic()
    with pytest.raises(StallTimeout):
        call_with_timeout(lambda: goes_on.wait(60), 0.2)
    assert time.monotonic() - began < 5
    assert call_with_timeout(lambda: 5, 10) == 5
    goes_on.set()


def test_a_call_that_reports_progress_may_take_longer():
    def slow() -> str:
        for _ in range(10):
            time.sleep(0.2)
            report_progress()
        with keep_reporting(every=0.1):
            time.sleep(2)
        return "done"

    assert call_with_timeout(slow, 1) == "done"


def test_a_video_at_whose_first_frame_the_decoder_hangs_is_unreadable(
    clip: Any, monkeypatch: pytest.MonkeyPatch
):
    path: Path = clip("plain.mp4")
    goes_on = threading.Event()
    monkeypatch.setattr(pvio.media.index.cached, "_TIMEOUT", 0.5)
    monkeypatch.setattr(
        pvio.media.index.frame_geometry, "orientation_of", lambda _: goes_on.wait(60)
    )
    with pytest.raises(UnreadableVideo, match="FFmpeg hangs at it"):
        load_index(path)
    monkeypatch.undo()
    assert load_index(path).n_frames > 0
    goes_on.set()
