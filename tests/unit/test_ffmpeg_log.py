"""FFmpeg's log is listened to, and left as it was."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import av.logging
import pytest
from projects import make_clip

import pvio
from pvio.media.ffmpeg.log import capture_log

State = tuple[int | None, bool, int]


def state() -> State:
    level = logging.getLogger("libav").level
    return av.logging.get_level(), av.logging.get_skip_repeated(), level


@pytest.fixture(params=[None, av.logging.ERROR, av.logging.INFO, av.logging.VERBOSE])
def before(request: pytest.FixtureRequest) -> Iterator[State]:
    old = state()
    av.logging.set_level(request.param)
    av.logging.set_skip_repeated(request.param != av.logging.ERROR)
    logging.getLogger("libav").setLevel(logging.WARNING)
    yield state()
    av.logging.set_level(old[0])
    av.logging.set_skip_repeated(old[1])
    logging.getLogger("libav").setLevel(old[2])


def test_log_messages_are_collected_and_the_settings_are_put_back(before: State):
    with capture_log() as messages:
        for _ in range(2):
            av.logging.log(av.logging.ERROR, "decoder", "it is damaged")
    assert [text for _, _, text in messages] == ["it is damaged"] * 2
    assert state() == before
    with pytest.raises(ValueError, match="mine"), capture_log():
        raise ValueError("mine")
    assert state() == before


def test_the_last_of_several_puts_them_back(before: State):
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with capture_log():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with capture_log():
        thread.start()
        assert inside.wait(10)
    assert state() == (av.logging.INFO, False, logging.CRITICAL)  # for the other one
    leave.set()
    thread.join()
    assert state() == before


def test_the_library_leaves_the_settings_of_a_program_alone(before: State, tmp_path: Path):
    clip = make_clip(tmp_path / "a.mp4", frames=5)
    assert pvio.check_num_frames(clip) == 5
    assert state() == before
    pvio.read_frames_from_video(clip, [0, 3])
    assert state() == before
    frames = pvio.VideoCollectionDataset([clip])
    iterator = iter(frames)
    next(iterator)  # and never closed
    assert state() == before
