"""Predictions: one row per frame, in Parquet that any reader understands."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pvio.errors import ModelError
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.predictions.parquet import (
    Predictions,
    deserialize,
    read_predictions,
    serialize,
    write_merged,
)
from pvio.predictions.table import SegmentTable

METADATA = {"source": "Mäuse.mp4", "time_base": "1/1000", "settings": {"crf": 18}}


@pytest.fixture(scope="module")
def index(clip: Callable[[str], Path]) -> FrameIndex:
    """Of a clip with uneven time stamps in milliseconds."""
    return load_index(clip("variable_rate.mp4"))


def segment(
    index: FrameIndex, start: int, stop: int, outputs: dict[str, np.ndarray], missing: Any = ()
) -> pa.Table:
    """The table of a segment whose outputs came in batches of three."""
    table = SegmentTable(index, start, stop)
    numbers = [number for number in range(start, stop) if number not in missing]
    for number in numbers:
        table.set_status(number, "ok")
    for first in range(0, len(numbers), 3):
        batch = numbers[first : first + 3]
        rows = [number - start for number in batch]
        table.append(batch, {name: values[rows] for name, values in outputs.items()})
    return deserialize(bytes(serialize(table.table())))


def read(tables: list[pa.Table], folder: Path) -> Predictions:
    return read_predictions(written(tables, folder / "video.parquet"))


def written(tables: list[pa.Table], path: Path) -> Path:
    """The segments of a video in a file."""
    with path.open("wb") as file:
        write_merged(file, lambda: tables, METADATA)
    return path


def test_every_row_has_frame_time_and_status(index: FrameIndex, tmp_path: Path):
    found = read([segment(index, 10, 20, {"x": np.zeros(10)}, {13})], tmp_path)
    n = np.arange(10, 20)
    milliseconds = 40 * n + 4 * (n * n % 5)
    assert found["frame"].tolist() == n.tolist()
    assert np.allclose(found["time"], milliseconds / 1000)
    assert found["status"].tolist() == ["ok"] * 3 + ["missing"] + ["ok"] * 6


def test_base_columns_have_their_types(index: FrameIndex):
    schema = segment(index, 0, 5, {"x": np.zeros(5)}).schema
    types = [schema.field(name).type for name in ("frame", "pts", "time", "status")]
    assert types == [pa.int64(), pa.int64(), pa.float64(), pa.string()]
    assert not any(schema.field(name).nullable for name in ("frame", "pts", "time", "status"))


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 4), (1, 2, 3)])
def test_outputs_are_read_as_the_model_gave_them(
    index: FrameIndex, tmp_path: Path, dtype: str, shape: tuple[int, ...]
):
    values = np.random.default_rng(0).integers(0, 2, (10, *shape)).astype(dtype)
    found = read([segment(index, 0, 10, {"x": values})], tmp_path)["x"]
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_special_numbers_are_kept(index: FrameIndex, tmp_path: Path):
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-300])
    found = read([segment(index, 0, 5, {"x": values})], tmp_path)["x"]
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_floats_of_rows_of_unusable_frames_are_nan(
    index: FrameIndex, tmp_path: Path, shape: tuple[int, ...]
):
    values = np.ones((6, *shape), np.float32)
    found = read([segment(index, 0, 6, {"x": values}, {0, 4})], tmp_path)["x"]
    assert found.dtype == np.float32
    empty = np.isnan(found).reshape(6, -1).all(axis=1)
    assert empty.tolist() == [True, False, False, False, True, False]


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_other_types_of_rows_of_unusable_frames_are_masked(
    index: FrameIndex, tmp_path: Path, dtype: str, shape: tuple[int, ...]
):
    values = np.ones((6, *shape), dtype)
    found = read([segment(index, 0, 6, {"x": values}, {0, 4})], tmp_path)["x"]
    assert isinstance(found, np.ma.MaskedArray)
    assert found.dtype == values.dtype
    masked = found.mask.reshape(6, -1).all(axis=1)
    assert masked.tolist() == [True, False, False, False, True, False]
    assert (found.compressed() == 1).all()


def test_rows_of_unusable_frames_are_null_in_the_file(index: FrameIndex):
    outputs = {"x": np.ones(6), "y": np.ones((6, 2, 2), np.int32)}
    table = segment(index, 0, 6, outputs, {5})
    for name in outputs:
        assert table.column(name).is_valid().to_pylist() == [True] * 5 + [False]


def test_segments_are_merged_in_the_order_of_their_frames(index: FrameIndex, tmp_path: Path):
    parts = [segment(index, a, a + 5, {"x": np.arange(a, a + 5)}) for a in (0, 5, 10)]
    assert read(parts, tmp_path)["x"].tolist() == list(range(15))


@pytest.mark.parametrize("empty_first", [False, True])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_segment_without_usable_frames_has_null_rows(
    index: FrameIndex, tmp_path: Path, empty_first: bool, shape: tuple[int, ...]
):
    values = np.ones((5, *shape), np.float32)
    first = segment(index, 0, 5, {"x": values}, range(5) if empty_first else ())
    second = segment(index, 5, 10, {"x": values}, () if empty_first else range(5, 10))
    found = read([first, second], tmp_path)
    empty = np.isnan(found["x"]).reshape(10, -1).all(axis=1)
    assert found["x"].shape == (10, *shape)
    assert empty.tolist() == [empty_first] * 5 + [not empty_first] * 5


def test_a_video_without_usable_frames_has_rows_without_outputs(index: FrameIndex, tmp_path: Path):
    found = read([segment(index, 0, 5, {}, range(5))], tmp_path)
    assert found["status"].tolist() == ["missing"] * 5


def test_metadata_are_read_as_they_were_written(index: FrameIndex, tmp_path: Path):
    assert read([segment(index, 0, 3, {"x": np.zeros(3)})], tmp_path).metadata == METADATA


def test_plain_arrow_reads_values_shape_and_metadata(index: FrameIndex, tmp_path: Path):
    values = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    path = written([segment(index, 0, 5, {"box": values})], tmp_path / "a.parquet")
    table = pq.read_table(path)
    assert table.column("box").to_pylist() == values.reshape(5, 6).tolist()
    assert table.schema.field("box").metadata[b"shape"] == b"[2, 3]"
    assert b"M\xc3\xa4use.mp4" in table.schema.metadata[b"pvio"]


def test_an_absent_file_is_not_found(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path / "gone.parquet")


def test_a_path_with_an_equals_sign_adds_no_column(index: FrameIndex, tmp_path: Path):
    folder = tmp_path / "day=1"
    folder.mkdir()
    assert "day" not in read([segment(index, 0, 3, {"x": np.zeros(3)})], folder)


@pytest.mark.parametrize(
    ("second", "text"),
    [
        ({"y": np.zeros(2)}, r"\['y'\] for frame 2 and \['x'\] before"),
        ({"x": np.zeros(2), "y": np.zeros(2)}, "same names"),
        ({"x": np.zeros((2, 3))}, r"shape \(3,\) for frame 2 and was float64 of shape \(\)"),
        ({"x": np.zeros(2, int)}, "int64 .* for frame 2 and was float64"),
    ],
)
def test_outputs_that_change_are_an_error_that_names_the_frame(
    index: FrameIndex, second: dict[str, np.ndarray], text: str
):
    table = SegmentTable(index, 0, 4)
    table.append([0, 1], {"x": np.zeros(2)})
    with pytest.raises(ModelError, match=text):
        table.append([2, 3], second)


def test_rows_are_counted_by_status(index: FrameIndex):
    table = SegmentTable(index, 0, 5)
    for number, status in enumerate(["ok", "suspect", "ok", "corrupt"]):
        table.set_status(number, status)
    assert table.status_counts() == {"ok": 2, "suspect": 1, "corrupt": 1, "missing": 1}


@pytest.mark.parametrize(
    ("one", "other", "parts_of_message"),
    [
        ({"x": np.zeros((5, 1))}, {"x": np.zeros((5, 2))}, (r"double of shape \(1,\)", r"\(2,\)")),
        ({"x": np.zeros((5, 2, 3))}, {"x": np.zeros((5, 3, 2))}, (r"\(2, 3\)", r"\(3, 2\)")),
        ({"x": np.zeros(5)}, {"x": np.zeros((5, 1))}, (r"of shape \(\)", r"\(1,\)")),
        ({"x": np.zeros(5)}, {"x": np.zeros(5, np.float32)}, ("double", "float")),
        ({"x": np.zeros(5)}, {"x": np.zeros(5), "y": np.zeros(5)}, ("'y' is absent", "double")),
        ({"x": np.zeros(5)}, {"y": np.zeros(5)}, ("'x'", "'y'", "absent")),
    ],
)
def test_outputs_that_differ_between_segments_are_an_error_that_names_both(
    index: FrameIndex, tmp_path: Path, one: Any, other: Any, parts_of_message: tuple[str, ...]
):
    bare = segment(index, 0, 5, {}, range(5))
    tables = [bare, segment(index, 5, 10, one), segment(index, 10, 15, other)]
    with pytest.raises(ModelError) as caught:
        written(tables, tmp_path / "a.parquet")
    assert "frames 5 to 9" in str(caught.value)
    assert "frames 10 to 14" in str(caught.value)
    for words in parts_of_message:
        assert re.search(words, str(caught.value)), str(caught.value)


def test_segments_are_row_groups_of_which_few_are_in_memory_at_once(
    index: FrameIndex, tmp_path: Path
):
    alive: list[weakref.ref[pa.Table]] = []

    def tables() -> Iterator[pa.Table]:
        for start in range(0, 20, 5):
            table = segment(index, start, start + 5, {"x": np.arange(5.0)} if start else {})
            alive.append(weakref.ref(table))
            yield table
            del table
            gc.collect()
            assert sum(each() is not None for each in alive) <= 1

    with (tmp_path / "a.parquet").open("wb") as file:
        write_merged(file, tables, METADATA)
    found = pq.ParquetFile(tmp_path / "a.parquet")
    assert found.num_row_groups == 4
    assert found.read().column("x").to_pylist() == [None] * 5 + [*range(5)] * 3


def test_the_order_of_outputs_may_differ_between_segments(index: FrameIndex, tmp_path: Path):
    values = {"x": np.arange(5), "y": np.ones((5, 2), np.float32)}
    swapped = dict(reversed(values.items()))
    found = read([segment(index, 0, 5, values), segment(index, 5, 10, swapped)], tmp_path)
    assert found["x"].tolist() == [*range(5)] * 2
    assert found["y"].shape == (10, 2)


def test_an_output_without_values_is_an_error(index: FrameIndex):
    with pytest.raises(ModelError, match=r"'x' has the shape \(0,\) for frame 2"):
        SegmentTable(index, 0, 5).append([2, 3], {"x": np.zeros((2, 0))})


def test_predictions_print_as_their_columns_and_types(index: FrameIndex, tmp_path: Path):
    outputs = {"x": np.zeros(10, np.float32), "at": np.zeros((10, 2))}
    found = read([segment(index, 0, 10, outputs)], tmp_path)
    assert repr(found) == (
        "Predictions(10 rows; frame: int64, pts: int64, time: float64, "
        f"status: {found['status'].dtype}, x: float32, at: float64[2])"
    )


ROUND_TRIP = """
import sys
import numpy as np
from pvio.media.index.cached import load_index
from pvio.predictions.parquet import deserialize, read_predictions, serialize, write_merged
from pvio.predictions.table import SegmentTable

table = SegmentTable(load_index(sys.argv[1]), 0, 5)
table.append([1, 2], {"x": np.ones(2), "y": np.ones((2, 2, 3), bool)})
with open(sys.argv[2], "wb") as file:
    write_merged(file, lambda: [deserialize(bytes(serialize(table.table())))] * 2, {})
read_predictions(sys.argv[2])
print(*sorted({"pandas", "pyarrow.dataset"} & sys.modules.keys()))
"""


def test_predictions_do_not_need_pandas(clip: Callable[[str], Path], tmp_path: Path):
    """To import it would take most of the start of a small job, wherever it is installed."""
    command = [sys.executable, "-c", ROUND_TRIP, clip("variable_rate.mp4"), tmp_path / "a.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
