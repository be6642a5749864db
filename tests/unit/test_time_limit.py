"""Calls with a time limit: values, errors, threads that hang, and who is asked after them."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pvio.media.orientation
from pvio.errors import UnreadableVideo
from pvio.media.ahead import Stalled
from pvio.media.index import load_index
from pvio.media.time_limit import within


def test_a_value_comes_back_and_errors_do_too():
    assert within(10, lambda: 3) == 3
    with pytest.raises(ValueError, match="no such thing"):
        within(10, lambda: int_of("no such thing"))
    assert within(10, lambda: 4) == 4


def int_of(text: str) -> int:
    raise ValueError(text)


def test_a_caller_keeps_its_thread():
    threads = {within(10, threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_a_call_that_hangs_is_given_up_and_the_next_one_is_made():
    goes_on = threading.Event()
    began = time.monotonic()
    with pytest.raises(Stalled):
        within(0.2, lambda: goes_on.wait(60))
    assert time.monotonic() - began < 5
    assert within(10, lambda: 5) == 5
    goes_on.set()
    assert within(10, lambda: 6) == 6


def test_the_thread_ends_with_its_caller():
    helpers: list[threading.Thread] = []
    caller = threading.Thread(
        target=lambda: helpers.append(within(10, lambda: threading.current_thread()))
    )
    caller.start()
    caller.join()
    helpers[0].join(5)
    assert not helpers[0].is_alive()


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
def test_a_forked_process_has_a_helper_of_its_own():
    within(10, lambda: 1)
    context: Any = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(within(10, lambda: 7)))
    process.start()
    process.join(20)
    assert process.exitcode == 0
    assert answers.get() == 7


def test_a_video_at_whose_first_picture_the_decoder_hangs_is_unreadable(
    clip: Any, monkeypatch: pytest.MonkeyPatch
):
    path: Path = clip("plain.mp4")
    goes_on = threading.Event()
    monkeypatch.setattr(pvio.media.orientation, "_PATIENCE", 0.2)
    monkeypatch.setattr(pvio.media.orientation, "orientation_of", lambda _: goes_on.wait(60))
    with pytest.raises(UnreadableVideo, match="its decoder hangs"):
        load_index(path)
    monkeypatch.undo()
    assert load_index(path).n_frames > 0
    goes_on.set()
