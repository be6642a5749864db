"""Calls with a time limit: values, errors, threads that hang, and who is asked after them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pvio.media.index.orientation
from pvio.concurrency.prefetch import Stalled
from pvio.concurrency.timeout import keep_helper, within
from pvio.errors import UnreadableVideo
from pvio.media.index.cached import load_index


def test_a_value_comes_back_and_errors_do_too():
    assert within(10, lambda: 3) == 3
    with pytest.raises(ValueError, match="no such thing"):
        within(10, lambda: int_of("no such thing"))
    assert within(10, lambda: 4) == 4


def int_of(text: str) -> int:
    raise ValueError(text)


def test_no_thread_stays_unless_asked_for():
    helper = within(10, threading.current_thread)
    assert helper is not threading.current_thread()
    assert not helper.is_alive()


def test_a_thread_of_a_pool_keeps_its_helper_until_it_ends():
    with ThreadPoolExecutor(1, initializer=keep_helper) as pool:
        found = {pool.submit(within, 10, threading.current_thread).result() for _ in range(5)}
        (helper,) = found
        assert helper.is_alive()
    helper.join(5)
    assert not helper.is_alive()


def test_a_call_that_hangs_is_given_up_and_the_next_one_is_made():
    goes_on = threading.Event()
    began = time.monotonic()
    with pytest.raises(Stalled):
        within(0.2, lambda: goes_on.wait(60))
    assert time.monotonic() - began < 5
    assert within(10, lambda: 5) == 5
    goes_on.set()
    assert within(10, lambda: 6) == 6


def test_a_video_at_whose_first_picture_the_decoder_hangs_is_unreadable(
    clip: Any, monkeypatch: pytest.MonkeyPatch
):
    path: Path = clip("plain.mp4")
    goes_on = threading.Event()
    monkeypatch.setattr(pvio.media.index.orientation, "_DECODER_TIMEOUT", 0.2)
    monkeypatch.setattr(pvio.media.index.orientation, "orientation_of", lambda _: goes_on.wait(60))
    with pytest.raises(UnreadableVideo, match="its decoder hangs"):
        load_index(path)
    monkeypatch.undo()
    assert load_index(path).n_frames > 0
    goes_on.set()
