"""Files of kinds that people really have: number of rows, times, luma and statuses of each."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats import Case, cases
from write_formats import PAGE, page

from pvio.collection.sources import Source
from pvio.errors import UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.index.cached import load_index
from pvio.media.pixels.convert import FrameConverter

CASES = [pytest.param(case, id=case.name) for _, case in cases()]


def test_the_names_are_unique():
    names = [case.name for _, case in cases()]
    assert len(set(names)) == len(names)


def test_the_page_is_written_from_the_table():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/write_formats.py"


def test_each_case_says_what_is_right():
    unclear = [
        case.name
        for _, case in cases()
        if (not case.times or not case.means if case.n_frames else not case.convert)
    ]
    assert not unclear


@pytest.mark.parametrize("case", CASES)
def test_a_file_of_this_kind_gives_the_right_rows(case: Case, ffmpeg: Any, tmp_path: Path):
    path = tmp_path / case.name
    case.make(ffmpeg, path)
    source = Source(str(path), "", path.is_dir())
    if case.n_frames == 0:
        with pytest.raises(UnreadableVideo, match=case.reason or None):
            load_index(source)
        return
    index = load_index(source)
    assert index.n_frames == case.n_frames
    if case.size:
        assert (index.height, index.width) == case.size
    if case.rate:
        assert float(index.average_rate) == pytest.approx(case.rate, rel=1e-3)
    if case.times:
        assert index.times == pytest.approx(np.array(case.times), abs=6e-4)
    assert re.search(case.damage, index.damage) if case.damage else index.damage == ""
    assert re.search(case.warning, index.warning) if case.warning else index.warning == ""
    convert = FrameConverter("gray", index.height, index.width, index.orientation)
    reader = open_reader(index)
    frames = list(reader.frames(0, index.n_frames))
    reader.close()
    assert [frame.number for frame in frames] == list(range(case.n_frames))
    assert Counter(frame.status for frame in frames) == (case.status or {"ok": case.n_frames})
    if case.means:
        for frame, mean in zip(frames, case.means, strict=True):
            if mean is None:
                assert frame.pixels is None
            elif not np.isnan(mean):
                assert convert(frame.pixels).mean() == pytest.approx(mean, abs=case.tolerance)
