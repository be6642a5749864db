"""All stages over real clips with known properties, if their folder is next to the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from projects import REPOSITORY, Project

import pvio

CLIPS = REPOSITORY.parent / "shared/videos"
pytestmark = [
    pytest.mark.skipif(
        not CLIPS.is_dir(), reason="the folder of real clips is not beside the repository"
    ),
    pytest.mark.xdist_group("real clips"),  # they share a run
]

# Width and height as a viewer sees them.
TURNED = {"tc_nasa_13013_rotated": (270, 480)}


def known_facts() -> Iterator[tuple[str, int]]:
    """(file name, number of frames) from the table in the clips' README."""
    if not CLIPS.is_dir():
        return
    for line in (CLIPS / "README.md").read_text().splitlines():
        match = re.match(r"\| (\w+\.\w+) \| [^|]+\| (\d+)", line)
        if match:
            yield match[1], int(match[2])


FACTS = dict(known_facts())


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("real"))
    project.stages(videos=[str(CLIPS)], output={"preset": "ultrafast"})
    return project


def test_the_table_of_facts_is_complete() -> None:
    assert len(FACTS) == 15


@pytest.mark.parametrize("clip", FACTS)
def test_predictions_have_a_row_for_every_frame(real_run: Project, clip: str) -> None:
    rows = pvio.read_predictions(real_run.folder / f"results/predictions/{Path(clip).stem}.parquet")
    assert len(rows["frame"]) == FACTS[clip]
    assert set(rows["status"]) == {"ok"}


@pytest.mark.parametrize("clip", FACTS)
def test_the_video_has_all_frames_in_the_size_a_viewer_sees(real_run: Project, clip: str) -> None:
    with av.open(str(CLIPS / clip)) as source:
        best = source.streams.best("video")
        assert best is not None
        size = TURNED.get(Path(clip).stem, (best.width, best.height))
    with av.open(str(real_run.folder / f"results/videos/{Path(clip).stem}.mp4")) as video:
        frames = list(video.decode(video=0))
        assert len(frames) == FACTS[clip]
        assert {(frame.width, frame.height) for frame in frames} == {size}
        assert {frame.rotation for frame in frames} == {0}
