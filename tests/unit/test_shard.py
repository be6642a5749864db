"""What a shard job makes of segments that fail, and when it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import REPOSITORY

from pvio.config import parse_settings
from pvio.errors import FailedSegments, JobError
from pvio.stages.infer import infer
from pvio.stages.plan import make_plan
from pvio.stages.probe import probe

SAMPLE = REPOSITORY / "samples/dark_on_bright.mp4"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_model_that_cannot_be_loaded_ends_the_job(tmp_path: Path):
    settings = parse_settings(
        {
            "videos": [str(SAMPLE)],
            "segment_frames": 100,
            "cache": str(tmp_path),
            "model": {"device": "cuda"},
        }
    )
    plan, _ = make_plan(probe(settings), settings, 1)
    with pytest.raises(JobError) as failed:
        infer(next(plan.parts("infer")), settings)
    assert str(failed.value).count("model.device: cuda is not there") == 1
