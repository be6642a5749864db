"""Results that an earlier version of pvio computed are used, not computed again.

`tests/data/pinned` holds a clip, a model, and the cache of a run of pvio before its modules got
their present names. When a change of the code is meant to give other results, the schema numbers
rise, and this folder is made again: run its `config.yaml` and copy what the run stored.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from projects import Project
from pydantic import Field

from pvio.cache.entries import Cache
from pvio.collection.sources import Source
from pvio.config.model import ModelSettings
from pvio.config.output import OutputSettings
from pvio.config.settings import Settings
from pvio.media.index.cached import deserialize_index, index_key
from pvio.media.index.content import content_digest
from pvio.models.entry import model_fingerprint
from pvio.pipeline.planning.cost import stage_workloads
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import (
    ProbedVideo,
    read_plan,
    read_probe,
    read_receipt,
    read_shard_plan,
)
from pvio.pipeline.planning.segments import Segment

PINNED = Path(__file__).resolve().parents[1] / "data/pinned"

VIDEO = ProbedVideo("clip", "/data/clip.mp4", digest="8cded3c5e3681a3b453719382f23f245")
MODEL = "0123456789abcdef0123456789abcdef"

# Settings, and the keys of frames 5 to 9 of the video: predictions, encoded video.
KEYS = {
    "defaults": (
        Settings(videos=["clip.mp4"]),
        "aaeb71ed819c948235b281b0867f9804",
        "a6e2b2e668fb61ccaa385082c21196f5",
    ),
    "model input": (
        Settings(
            videos=["clip.mp4"],
            decoder="pyav",
            model=ModelSettings(
                entry="a.py:A",
                channels="rgb",
                size=[48, 64],
                dtype="uint8",
                batch_size=7,
                precision="bfloat16",
            ),
        ),
        "f9f13b71bf1585e3b1573aa3caf81273",
        "25f0026059141d95ad093ee16454c9f4",
    ),
    "output": (
        Settings(
            videos=["clip.mp4"],
            model=ModelSettings(
                channels="rgb", normalize={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
            ),
            output=OutputSettings(video="frames", codec="libx265", crf=30, options={"bf": 2}),
        ),
        "cadb8c362642fa11258d9f482722b487",
        "184e8915cab68e99486f23e8ad43a0d2",
    ),
}


def test_a_cache_of_an_earlier_version_is_used(tmp_path: Path):
    shutil.copytree(PINNED, tmp_path, dirs_exist_ok=True)
    shutil.copytree(PINNED / "cache", tmp_path / ".pvio", ignore=shutil.ignore_patterns("index"))
    # The path and the time of the clip are part of the key of its index. The mark is lost when the
    # index is built again.
    index, metadata = Cache(PINNED / "cache").read("index", "76448abaa5c4f1bb8800264a0c2430b8")
    key = index_key(Source(str(tmp_path / "videos/clip.mp4"), "clip"))
    cache = Cache(tmp_path / ".pvio")
    cache.write("index", key, index, metadata | {"mark": "by an earlier version"})
    project = Project(tmp_path)

    project.run("--configfile", "config.yaml")

    kept, metadata = cache.read("index", key)
    assert metadata["mark"] == "by an earlier version"
    assert kept == index
    assert [path.name for path in (tmp_path / ".pvio/index").glob("*/*")] == [key]
    assert project.n_computed("infer") == 0
    assert project.n_computed("encode") == 0
    assert project.summary()["clip"]["ok"] == "12"


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_results_stay(name: str):
    settings, predictions, video = KEYS[name]
    segment = Segment(0, 5, 10)

    keys = ResultKeys(settings, MODEL)
    assert keys.predictions(VIDEO, segment) == ("predictions", predictions)
    assert keys.video(VIDEO, segment) == ("video", video)


class ModelOfALaterVersion(ModelSettings):
    """With a setting that this version does not have."""

    crop: list[int] | None = None


class OutputOfALaterVersion(OutputSettings):
    """With a setting that this version does not have."""

    labels: list[str] = Field(default_factory=list)


def of_a_later_version(settings: Settings, model: dict, output: dict) -> Settings:
    """The settings, with values of the settings that are new."""
    return settings.model_copy(
        update={
            "model": ModelOfALaterVersion(**settings.model.model_dump(), **model),
            "output": OutputOfALaterVersion(**settings.output.model_dump(), **output),
        }
    )


@pytest.mark.parametrize("name", KEYS)
def test_keys_stay_when_a_version_adds_settings(name: str):
    settings, predictions, video = KEYS[name]
    segment = Segment(0, 5, 10)

    later = of_a_later_version(settings, {}, {})
    keys = ResultKeys(later, MODEL)
    assert keys.predictions(VIDEO, segment) == ("predictions", predictions)
    assert keys.video(VIDEO, segment) == ("video", video)
    assert stage_workloads(later, MODEL) == stage_workloads(settings, MODEL)


def test_added_settings_enter_keys_once_they_are_used():
    settings, predictions, video = KEYS["output"]
    segment = Segment(0, 5, 10)

    cropped = of_a_later_version(settings, {"crop": [0, 0, 16, 16]}, {})
    labeled = of_a_later_version(settings, {}, {"labels": ["mouse"]})
    assert ResultKeys(cropped, MODEL).predictions(VIDEO, segment).key != predictions
    assert ResultKeys(labeled, MODEL).predictions(VIDEO, segment).key == predictions
    assert ResultKeys(labeled, MODEL).video(VIDEO, segment).key != video
    for later in (cropped, labeled):
        assert stage_workloads(later, MODEL)["infer"] != stage_workloads(settings, MODEL)["infer"]
    plain = stage_workloads(settings, MODEL)["encode"]
    assert stage_workloads(labeled, MODEL)["encode"] != plain


def test_fingerprints_of_models_stay(tmp_path: Path):
    (tmp_path / "model.py").write_text("import helper\n\nclass A:\n    pass\n")
    (tmp_path / "helper.py").write_text("FACTOR = 2\n")
    (tmp_path / "weights.pt").write_bytes(b"weights")
    entry, weights = f"{tmp_path}/model.py:A", f"{tmp_path}/weights.pt"

    assert model_fingerprint(ModelSettings()) == "e11823ca9b7a1a87e3e26611027a9e0f"
    assert (
        model_fingerprint(ModelSettings(args={"n": 3, "x": 1e-5}))
        == "601ef4a93bdb9370d491e00f1c0c2911"
    )
    assert (
        model_fingerprint(ModelSettings(entry=entry, weights=weights))
        == "4ce41b59e06730e272d081ef63aff9d8"
    )


def test_costs_are_found_under_the_same_keys():
    settings = KEYS["output"][0]

    assert [work.key for work in stage_workloads(settings, MODEL).values()] == [
        "a366e260de9a09ac88a5022f9b344fdf",
        "2c9d5aa84b5c44fa9aeef24b6f218155",
    ]


def test_the_key_of_an_index_is_made_of_path_size_and_time(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    os.utime(path, ns=(10**18, 10**18))
    fixed = "pvio.media.index.cached._real_path"
    monkeypatch.setattr(fixed, lambda path: "/data/a.mp4")

    assert index_key(Source(str(path), "a")) == "3d70bd5eccac7fa888eff7ca9fd7fa5a"


def test_a_stored_index_is_read():
    stored = Cache(PINNED / "cache")
    plan = read_plan(PINNED / "stored/plan.json")
    payload, metadata = stored.read("index", plan.videos[0].index_key)

    index = deserialize_index(payload, metadata, "/data/clip.mp4")

    assert list(index.pts) == [512 * i for i in range(12)]
    assert list(index.keyframes) == [0, 5, 10]
    assert (index.height, index.width, index.codec) == (32, 48, "h264")
    assert index.content_digest == VIDEO.digest


def test_stored_tables_are_read():
    """As an earlier version wrote them, under the names that it gave the fields."""
    probed = read_probe(PINNED / "stored/probe.json")
    plan = read_plan(PINNED / "stored/plan.json")
    part = read_shard_plan(PINNED / "stored/shard.json", "encode", "1-of-2")
    receipt = read_receipt(PINNED / "stored/infer.json")
    written = json.loads((PINNED / "stored/infer.json").read_text())

    assert [video.name for video in probed] == ["clip"]
    assert [(each.start, each.stop) for each in plan.segments] == [(0, 5), (5, 10), (10, 12)]
    assert plan.infer_shards == [[0, 2], [1]]
    assert part.segment_numbers == [0, 2]
    assert [done.segment for done in receipt.segments] == [0, 2]
    assert [done.cost for done in receipt.segments] == [
        done["seconds"]["cost"] for done in written["segments"]
    ]


@pytest.fixture
def image_folder(tmp_path: Path) -> Source:
    """Three images, of which only names, bytes and times matter here."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 10):
        (folder / f"image {number}.png").write_bytes(f"pixels {number}".encode())
        os.utime(folder / f"image {number}.png", ns=(10**18, 10**18 + number))
    return Source(str(folder), "images", is_image_folder=True)


def test_the_key_of_an_image_folder_is_made_of_names_sizes_and_times(
    image_folder: Source, monkeypatch
):
    fixed = "pvio.media.index.cached._real_path"
    monkeypatch.setattr(fixed, lambda path: "/data/images")

    assert index_key(image_folder) == "520818b5889dbc6c4ef06cebce9803ae"


def test_the_digest_of_an_image_folder_is_made_of_names_and_bytes(image_folder: Source):
    assert content_digest(image_folder) == "702efc360ad89f88c6797a969fddb850"


@pytest.mark.parametrize(
    ("suffix", "weights", "expected"),
    [
        (".pt2", False, "02c18dfa0a828b8ca5e94a5885e53f12"),
        (".pt", False, "02c18dfa0a828b8ca5e94a5885e53f12"),
        (".pt2", True, "e68e8980394072fe00fdf4b35417a73e"),
    ],
)
def test_fingerprints_of_programs_stay(tmp_path: Path, suffix: str, weights: bool, expected: str):
    """Files of torch.export and TorchScript: their bytes count, and not their names."""
    program, state = tmp_path / f"program{suffix}", tmp_path / "state.pth"
    program.write_bytes(b"program")
    state.write_bytes(b"state")
    settings = ModelSettings(entry=str(program), weights=str(state) if weights else None)

    assert model_fingerprint(settings) == expected
