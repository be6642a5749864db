"""What a shard job says of segments that fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import REPOSITORY

from pvio.config import parse_settings
from pvio.errors import UnusableModel
from pvio.stages.infer import infer
from pvio.stages.plan import make_plan
from pvio.stages.probe import probe

SAMPLE = REPOSITORY / "samples/dark_on_bright.mp4"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_what_goes_wrong_with_every_segment_is_said_once(tmp_path: Path):
    settings = parse_settings(
        {
            "videos": [str(SAMPLE)],
            "segment_frames": 100,
            "cache": str(tmp_path),
            "model": {"device": "cuda"},
        }
    )
    plan, _ = make_plan(probe(settings), settings, 1)
    with pytest.raises(UnusableModel, match=r"^model\.device: cuda is not there"):
        infer(next(plan.parts("infer")), settings)
