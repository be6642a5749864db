import json
import logging
import os
import subprocess
import sys

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
    """Frame i is uniform 20 * i: it can be told after lossy encoding."""
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
        zero_the_pictures_from(video, 4)
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

    def test_a_failed_encoding_gives_ffmpegs_words_and_leaves_the_old_file(self, video):
        before = video.read_bytes()
        with pytest.raises(EncodeError, match="no_such_codec"):
            write_frames_to_video(video, grey_levels(10, 512, 512), 10, codec="no_such_codec")
        assert video.read_bytes() == before
        assert [path.name for path in video.parent.iterdir()] == ["a.mp4"]

    def test_a_missing_folder_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            write_frames_to_video(tmp_path / "nowhere" / "a.mp4", grey_levels(), fps=10)

    @pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
    def test_a_frame_rate_that_is_not_positive_is_an_error(self, tmp_path, fps):
        with pytest.raises(ValueError, match="fps"):
            write_frames_to_video(tmp_path / "a.mp4", grey_levels(1), fps=fps)

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

    @pytest.mark.parametrize("text", ["no json", "[]", '{"n_frames": 3}', '{"frame_size": 3}'])
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


def zero_the_pictures_from(video, rank):
    """Overwrite the coded pictures of frames `rank` and later; the container's tables stay."""
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        pts = sorted(packet.pts for packet in packets)
        spans = [(packet.pos, packet.size) for packet in packets if packet.pts >= pts[rank]]
    data = bytearray(video.read_bytes())
    for start, size in spans:
        data[start : start + size] = bytes(size)
    video.write_bytes(data)
