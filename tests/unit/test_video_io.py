import json
import logging
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import av
import numpy as np
import pytest

from pvio.errors import EncodeError
from pvio.video_io import (
    check_num_frames,
    get_video_metadata,
    read_frames_from_video,
    write_frames_to_video,
)


def grey_levels(n=10, height=32, width=48, channels=3):
    """Frame i is uniform 20 * i: it can be identified after lossy encoding."""
    return [np.full((height, width, channels), 20 * i, np.uint8) for i in range(n)]


def level(frame):
    return round(float(frame.mean()) / 20)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a.mp4"
    write_frames_to_video(path, grey_levels(), fps=25.0, ffmpeg_params=["-g", "4"])
    return path


class TestReading:
    def test_all_frames_come_in_order_as_uint8_rgb(self, video):
        frames, fps = read_frames_from_video(video)
        assert [level(frame) for frame in frames] == list(range(10))
        assert fps == 25.0
        assert isinstance(fps, float)
        assert {(frame.shape, frame.dtype.name) for frame in frames} == {((32, 48, 3), "uint8")}

    def test_frames_come_in_the_order_asked_for_with_repeats(self, video):
        frames, _ = read_frames_from_video(str(video), frame_indices=[7, 0, 7, np.int64(3)])
        assert [level(frame) for frame in frames] == [7, 0, 7, 3]
        assert frames[0] is not frames[2]

    def test_no_indices_give_no_frames(self, video):
        assert read_frames_from_video(video, []) == ([], 25.0)

    @pytest.mark.parametrize("index", [10, -1, 10**6])
    def test_a_number_outside_the_video_is_an_index_error(self, video, index):
        with pytest.raises(IndexError, match=f"frame {index} "):
            read_frames_from_video(video, [0, index])

    def test_red_is_the_first_channel(self, tmp_path):
        red = np.zeros((32, 32, 3), np.uint8)
        red[..., 0] = 255
        write_frames_to_video(tmp_path / "red.mp4", [red], fps=5)
        (frame,), _ = read_frames_from_video(tmp_path / "red.mp4")
        assert np.abs(frame.astype(int) - red).max() < 4

    def test_no_video_a_folder_and_a_missing_file_are_value_errors(self, tmp_path):
        text = tmp_path / "text.mp4"
        text.write_text("no video")
        for path in (text, tmp_path, tmp_path / "absent.mp4"):
            with pytest.raises(ValueError, match=path.name):
                read_frames_from_video(path)

    def test_a_damaged_frame_is_an_error_that_names_it_and_the_others_can_be_read(self, video):
        zero_the_frames_from(video, 4)
        with pytest.raises(ValueError, match="frame 4 is damaged"):
            read_frames_from_video(video)
        frames, _ = read_frames_from_video(video, [3, 0])
        assert [level(frame) for frame in frames] == [3, 0]


class TestWriting:
    @pytest.mark.parametrize("size", [(31, 47), (32, 47), (31, 48), (50, 34), (1, 1)])
    def test_the_size_is_kept_whatever_it_is(self, tmp_path, size):
        path = tmp_path / "odd.mp4"
        write_frames_to_video(path, grey_levels(3, *size), fps=10)
        frames, _ = read_frames_from_video(path)
        assert [frame.shape for frame in frames] == [(*size, 3)] * 3
        assert [level(frame) for frame in frames] == [0, 1, 2]

    @pytest.mark.parametrize("codec", ["libx265", "mpeg4", "libvpx-vp9"])
    def test_other_codecs_keep_odd_sizes_too(self, tmp_path, codec):
        path = tmp_path / "odd.mkv"
        write_frames_to_video(path, grey_levels(2, 65, 67), 10, codec=codec, ffmpeg_params=[])
        frames, _ = read_frames_from_video(path)
        assert [frame.shape for frame in frames] == [(65, 67, 3)] * 2

    @pytest.mark.parametrize("channels", [1, 2, 4])
    def test_grey_and_alpha_frames_are_accepted(self, tmp_path, channels):
        path = tmp_path / "channels.mp4"
        frames = grey_levels(4, channels=channels)
        write_frames_to_video(path, frames, fps=10)
        assert [level(frame) for frame in read_frames_from_video(path)[0]] == [0, 1, 2, 3]

    def test_frames_without_a_channel_axis_are_grey(self, tmp_path):
        path = tmp_path / "flat.mp4"
        write_frames_to_video(path, np.stack(grey_levels(4))[..., 0], fps=10)
        assert [level(frame) for frame in read_frames_from_video(path)[0]] == [0, 1, 2, 3]

    def test_a_generator_of_frames_is_accepted(self, tmp_path):
        path = tmp_path / "generated.mp4"
        write_frames_to_video(path, (frame[::1, ::-1] for frame in grey_levels(4)), fps=10)
        assert check_num_frames(path) == 4

    @pytest.mark.parametrize("fps", [23.976, 30000 / 1001, 12.5, 250])
    def test_the_frame_rate_is_exact(self, tmp_path, fps):
        path = tmp_path / "rate.mp4"
        write_frames_to_video(path, grey_levels(4), fps=fps)
        assert read_frames_from_video(path, [0])[1] == pytest.approx(fps, rel=1e-9)

    def test_no_frame_is_an_error(self, tmp_path):
        for nothing in ([], iter([])):
            with pytest.raises(ValueError, match="No frames"):
                write_frames_to_video(tmp_path / "none.mp4", nothing, fps=10)

    @pytest.mark.parametrize("as_given", [list, iter])
    def test_frames_of_two_sizes_are_an_error_that_names_both(self, tmp_path, as_given):
        frames = [*grey_levels(2, 20, 20), *grey_levels(1, 10, 12)]
        with pytest.raises(ValueError, match=r"\(20, 20\).*\(10, 12\)"):
            write_frames_to_video(tmp_path / "bad.mp4", as_given(frames), fps=10)
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_encoding_gives_ffmpegs_message_and_leaves_the_old_file(self, video):
        before = video.read_bytes()
        with pytest.raises(EncodeError, match="no_such_codec"):
            write_frames_to_video(video, grey_levels(10, 512, 512), 10, codec="no_such_codec")
        assert video.read_bytes() == before
        assert [path.name for path in video.parent.iterdir()] == ["a.mp4"]

    def test_a_missing_folder_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            write_frames_to_video(tmp_path / "nowhere" / "a.mp4", grey_levels(), fps=10)

    @pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), None, "10", True, 1j])
    def test_a_frame_rate_that_is_not_positive_is_an_error(self, tmp_path, fps):
        with pytest.raises(ValueError, match="fps"):
            write_frames_to_video(tmp_path / "a.mp4", grey_levels(1), fps=fps)

    @pytest.mark.parametrize(
        "fps", [np.float32(12.5), Fraction(25, 2), Decimal("12.5"), np.int64(12)]
    )
    def test_a_frame_rate_may_be_a_number_of_any_kind(self, tmp_path, fps):
        path = tmp_path / "rate.mp4"
        write_frames_to_video(path, grey_levels(2), fps=fps)
        assert read_frames_from_video(path, [0])[1] == float(fps)

    @pytest.mark.parametrize(
        ("dtype", "scale"),
        [
            (np.float32, 1 / 255),
            (np.float64, 1 / 255),
            (np.float16, 1 / 255),
            (np.int64, 1),
            (np.uint32, 1),
            (np.int8, 0.5),
            (np.uint16, 256),
            (np.dtype(">u2"), 256),
        ],
    )
    def test_values_of_other_types_have_one_scale_for_all_frames(self, tmp_path, dtype, scale):
        """Each frame has two levels; stretched between them, all frames would be the same."""
        frames = []
        for i in range(4):
            frame = np.full((32, 32, 3), 20 * i * scale)
            frame[16:] = (20 * i + 40) * scale
            frames.append(frame.astype(dtype))
        path = tmp_path / "levels.mp4"
        write_frames_to_video(path, frames, fps=10)
        factor = 0.5 if dtype == np.int8 else 1
        for i, frame in enumerate(read_frames_from_video(path)[0]):
            levels = [frame[:12].mean(), frame[20:].mean()]
            assert levels == pytest.approx([20 * i * factor, (20 * i + 40) * factor], abs=2)

    @pytest.mark.parametrize(
        ("frame", "text"),
        [
            (np.full((8, 8, 3), 100.0), r"from 100\.0 to 100\.0.*\[0, 1\]"),
            (np.full((8, 8, 3), -0.1, np.float32), r"\[0, 1\]"),
            (np.full((8, 8, 3), np.nan), "from nan to nan"),
            (np.full((8, 8, 3), np.inf), "inf"),
            (np.full((8, 8, 3), 256), r"from 256 to 256.*0 to 255"),
            (np.full((8, 8, 3), -1, np.int8), "from -1 to -1"),
            (np.full((8, 8, 3), 2**40, np.uint64), "0 to 255"),
            (np.ones((8, 8, 3), bool), r"bool.*astype\(np\.uint8\) \* 255"),
            (np.ones((8, 8, 3), object), "object"),
            (np.ones((8, 8, 3), complex), "complex"),
            (np.full((8, 8, 3), "a"), "<U1"),
            (np.zeros((0, 8, 3), np.uint8), "at least one pixel"),
            (np.zeros((3, 8, 8), np.uint8), "transpose"),
            (np.zeros((1, 8, 8, 3), np.uint8), "H×W×C"),
            (np.uint8(3), "H×W×C"),
        ],
    )
    @pytest.mark.parametrize("as_given", [list, iter])
    def test_frames_without_a_stated_scale_are_an_error(self, tmp_path, frame, text, as_given):
        first = [np.zeros_like(frame)] if frame.dtype.kind in "iuf" and frame.ndim else []
        with pytest.raises(ValueError, match=text):
            write_frames_to_video(tmp_path / "a.mp4", as_given([*first, frame]), fps=10)
        assert list(tmp_path.iterdir()) == []

    def test_floats_off_by_rounding_only_are_accepted(self, tmp_path):
        frames = [np.full((8, 8, 3), value) for value in (-1e-7, 1 + 1e-6)]
        write_frames_to_video(tmp_path / "a.mp4", frames, fps=10)
        means = [frame.mean() for frame in read_frames_from_video(tmp_path / "a.mp4")[0]]
        assert means == pytest.approx([0, 255], abs=2)

    def test_progress_is_logged_at_the_level_asked_for(self, tmp_path, caplog):
        with caplog.at_level(logging.DEBUG):
            write_frames_to_video(
                tmp_path / "a.mp4", grey_levels(5), 10, log_interval=2, log_level=logging.DEBUG
            )
        lines = [(r.levelname, r.getMessage()) for r in caplog.records if "Written" in r.message]
        assert lines == [("DEBUG", f"Written frame {i}/5") for i in (1, 3, 5)]

    def test_the_given_ffmpeg_options_are_used(self, tmp_path):
        frames = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)] * 3
        for crf in (0, 50):
            write_frames_to_video(
                tmp_path / f"{crf}.mp4", frames, 10, ffmpeg_params=["-crf", str(crf)]
            )
        sizes = [(tmp_path / f"{crf}.mp4").stat().st_size for crf in (0, 50)]
        assert sizes[0] > 4 * sizes[1]


_CORRUPT = [
    "no json",
    "[]",
    '{"n_frames": 3}',
    '{"frame_size": 3}',
    '{"n_frames": 3, "frame_size": [2, 2], "fps": NaN, "size": 1, "mtime_ns": 1}',
    '{"n_frames": -1, "frame_size": [2, 2], "fps": 1, "size": 1, "mtime_ns": 1}',
]


class TestMetadata:
    def test_the_number_of_frames_is_counted(self, video):
        assert check_num_frames(video) == 10

    def test_a_file_that_cannot_be_opened_is_a_runtime_error_that_names_it(self, tmp_path):
        bad = tmp_path / "not_a_video.txt"
        bad.write_text("hello")
        for path in (bad, tmp_path / "absent.mp4"):
            for function in (check_num_frames, get_video_metadata):
                with pytest.raises(RuntimeError, match=path.name):
                    function(path)

    def test_it_has_the_size_as_arrays_have_it(self, video):
        expected = {"n_frames": 10, "frame_size": (32, 48), "fps": 25.0}
        assert get_video_metadata(video) == expected  # read from the video
        assert get_video_metadata(str(video)) == expected  # read from the cache
        assert isinstance(get_video_metadata(video)["frame_size"], tuple)

    def test_the_cache_is_believed_while_the_video_is_unchanged(self, video):
        get_video_metadata(video)
        cache = video.with_name("a.mp4.metadata.json")
        cache.write_text(json.dumps(json.loads(cache.read_text()) | {"n_frames": 123}))
        assert get_video_metadata(video)["n_frames"] == 123
        assert get_video_metadata(video, use_cached_metadata=False)["n_frames"] == 10

    def test_the_cache_is_not_believed_after_the_video_has_changed(self, video):
        get_video_metadata(video)
        write_frames_to_video(video, grey_levels(4), fps=5)
        expected = {"n_frames": 4, "frame_size": (32, 48), "fps": 5.0}
        assert [get_video_metadata(video) for _ in range(2)] == [expected] * 2

    @pytest.mark.parametrize("name", ["a.mp4.metadata.json", "a.metadata.json"])
    def test_the_cache_is_not_believed_of_another_file_with_the_same_times(
        self, video, tmp_path, name
    ):
        """As `cp -p` and `mv` leave it: an older modification time, perhaps the same, and size."""
        other = tmp_path / "other" / "a.mp4"
        other.parent.mkdir()
        write_frames_to_video(other, grey_levels(4), fps=5)
        if name == "a.metadata.json":
            video.with_name(name).write_text('{"n_frames": 9, "frame_size": [3, 3], "fps": 1}')
        else:
            get_video_metadata(video)
        size = max(video.stat().st_size, other.stat().st_size)
        os.truncate(other, size)  # zeros after the last box, or the very size
        os.utime(other, ns=(0, video.stat().st_mtime_ns - 10**10))
        cached = json.loads(video.with_name(name).read_text())
        if "size" in cached:  # as if the video had had this size and time all along
            cached |= {"size": size, "mtime_ns": other.stat().st_mtime_ns}
            video.with_name(name).write_text(json.dumps(cached))
        for put in (shutil.copy2, shutil.move):
            put(other, video)
            assert get_video_metadata(video)["n_frames"] == 4
            put_back = video.with_name(name)
            put_back.write_text(json.dumps(cached))

    def test_a_cache_that_was_copied_with_its_video_is_not_believed_but_renewed(
        self, video, tmp_path
    ):
        get_video_metadata(video)
        cache = video.with_name("a.mp4.metadata.json")
        cache.write_text(json.dumps(json.loads(cache.read_text()) | {"n_frames": 123}))
        shutil.copytree(video.parent, tmp_path / "copy", copy_function=shutil.copy2)
        copy = tmp_path / "copy" / video.name
        assert get_video_metadata(copy)["n_frames"] == 10
        assert json.loads(copy.with_name(cache.name).read_text())["n_frames"] == 10

    def test_a_cache_of_a_version_without_digests_is_renewed(self, video):
        fields = video.stat()
        old = {"n_frames": 123, "frame_size": [32, 48], "fps": 25.0}
        old |= {"size": fields.st_size, "mtime_ns": fields.st_mtime_ns}
        video.with_name("a.mp4.metadata.json").write_text(json.dumps(old))
        assert get_video_metadata(video)["n_frames"] == 10

    @pytest.mark.parametrize("suffix", ["", ".mp4", "_1.AVI", "/x.json", None])
    def test_the_cache_never_takes_the_place_of_a_video(self, video, suffix):
        before = video.read_bytes()
        for use_cached_metadata in (True, False):
            with pytest.raises(ValueError, match="metadata_suffix"):
                get_video_metadata(video, True, use_cached_metadata, suffix)
        assert [path.name for path in video.parent.iterdir()] == ["a.mp4"]
        assert video.read_bytes() == before

    def test_videos_that_differ_in_their_ending_have_caches_of_their_own(self, video):
        other = video.with_suffix(".avi")
        write_frames_to_video(other, grey_levels(3), fps=5)
        for _ in range(2):
            assert get_video_metadata(video)["n_frames"] == 10
            assert get_video_metadata(other)["n_frames"] == 3

    def test_nothing_is_written_unless_asked_for(self, video):
        get_video_metadata(video, cache_metadata=False)
        assert [path.name for path in video.parent.iterdir()] == ["a.mp4"]

    def test_the_name_of_the_cache_can_be_chosen(self, video):
        get_video_metadata(video, metadata_suffix=".facts.json")
        names = sorted(path.name for path in video.parent.iterdir())
        assert names == ["a.mp4", "a.mp4.facts.json"]

    @pytest.mark.parametrize("text", _CORRUPT)
    @pytest.mark.parametrize("name", ["a.mp4.metadata.json", "a.metadata.json"])
    def test_a_corrupt_cache_raises_and_is_named(self, video, name, text):
        video.with_name(name).write_text(text)
        with pytest.raises(ValueError, match=name):
            get_video_metadata(video)

    def test_a_cache_of_0_1_3_is_used_while_it_is_newer_than_the_video(self, video):
        legacy = video.with_name("a.metadata.json")
        legacy.write_text('{"n_frames": 123, "frame_size": [32, 32], "fps": 12.0}')
        os.utime(legacy, ns=(0, video.stat().st_mtime_ns + 10**9))
        expected = {"n_frames": 123, "frame_size": (32, 32), "fps": 12.0}
        assert get_video_metadata(video) == expected
        os.utime(legacy, ns=(0, video.stat().st_mtime_ns - 10**9))
        assert get_video_metadata(video)["n_frames"] == 10

    def test_a_cache_of_0_1_3_is_not_used_where_two_videos_could_be_meant(self, video):
        video.with_suffix(".avi").touch()
        legacy = video.with_name("a.metadata.json")
        legacy.write_text('{"n_frames": 123, "frame_size": [32, 32], "fps": 12.0}')
        os.utime(legacy, ns=(0, video.stat().st_mtime_ns + 10**9))
        assert get_video_metadata(video)["n_frames"] == 10

    def test_a_cache_that_cannot_be_written_is_a_warning(self, video, caplog):
        video.with_name("a.mp4.metadata.json").mkdir()
        assert get_video_metadata(video)["n_frames"] == 10
        assert "could not be cached" in caplog.text


class TestPaths:
    def test_paths_may_be_bytes_strings_or_path_like(self, video):
        for path in (os.fsencode(video), str(video), video, next(os.scandir(video.parent))):
            assert check_num_frames(path) == 10
            assert len(read_frames_from_video(path, [0])[0]) == 1
            assert get_video_metadata(path, cache_metadata=False)["n_frames"] == 10
        write_frames_to_video(os.fsencode(video), grey_levels(3), 5)
        assert check_num_frames(video) == 3

    @pytest.mark.parametrize("path", [None, 3])
    def test_what_is_no_path_is_an_error_that_says_so(self, path):
        for function in (
            read_frames_from_video,
            check_num_frames,
            get_video_metadata,
            lambda path: write_frames_to_video(path, grey_levels(1), 5),
        ):
            with pytest.raises(TypeError, match="a path is expected"):
                function(path)

    def test_a_missing_file_is_the_error_of_0_1_3_and_a_value_error(self):
        for kind in (FileNotFoundError, ValueError):
            with pytest.raises(kind, match=r"^absent\.mp4: no such file or directory$"):
                read_frames_from_video("absent.mp4")
        with pytest.raises(RuntimeError, match="expanduser"):
            check_num_frames("~/absent.mp4")


def test_the_names_of_0_1_3_are_there():
    code = """
import pvio
for module, names in {
    pvio: "torch util video_io read_frames_from_video write_frames_to_video check_num_frames "
    "get_video_metadata VideoCollectionDataset VideoCollectionDataLoader",
    pvio.video_io: "np json logging Path read_frames_from_video write_frames_to_video "
    "check_num_frames get_video_metadata _default_ffmpeg_params_for_video_writing",
    pvio.torch: "torch logging Path IterableDataset DataLoader get_worker_info get_video_metadata "
    "balance_load_lpt VideoCollectionDataset VideoCollectionDataLoader",
    pvio.util: "Hashable balance_load_lpt",
}.items():
    assert set(names.split()) <= {name for name in dir(module) if hasattr(module, name)}, module
assert pvio.video_io._default_ffmpeg_params_for_video_writing + ["-y"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_pvio_and_reading_videos_needs_no_torch():
    code = "import sys, pvio; pvio.read_frames_from_video; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_readme_examples_of_0_1_3_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = [np.full((32, 32, 3), fill_value=i, dtype=np.uint8) for i in range(10)]
    write_frames_to_video("example.mp4", frames, fps=25.0)
    assert check_num_frames("example.mp4") == 10
    meta = get_video_metadata("example.mp4")
    assert meta == {"n_frames": 10, "frame_size": (32, 32), "fps": 25.0}
    frames, fps = read_frames_from_video("example.mp4")
    assert (len(frames), fps) == (10, 25.0)
    frames, fps = read_frames_from_video("example.mp4", frame_indices=[0, 5])
    assert len(frames) == 2


def zero_the_frames_from(video, number):
    """Overwrite the coded data of frame `number` and later frames; the container's tables stay."""
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        pts = sorted(packet.pts for packet in packets)
        spans = [(packet.pos, packet.size) for packet in packets if packet.pts >= pts[number]]
    data = bytearray(video.read_bytes())
    for start, size in spans:
        data[start : start + size] = bytes(size)
    video.write_bytes(data)
