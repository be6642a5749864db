import logging
import multiprocessing
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
import torch

from pvio.batches import FloatBuffers
from pvio.torch import VideoCollectionDataLoader, VideoCollectionDataset
from pvio.video_io import read_frames_from_video, write_frames_to_video

FAST = ["-crf", "10", "-preset", "ultrafast"]


def make_video(path, n, height=32, width=48, gop=250):
    """Frame i is textured and differs from all others."""
    rng = np.random.default_rng(n)
    texture = rng.integers(0, 80, (height, width, 3), np.uint8)
    frames = [texture + np.uint8(3 * i % 170) for i in range(n)]
    write_frames_to_video(path, frames, 25, ffmpeg_params=[*FAST, "-g", str(gop)])
    return path


def make_images(folder, pixels, names=None):
    folder.mkdir()
    names = names or [f"{i:03d}.png" for i in range(len(pixels))]
    for name, image in zip(names, pixels, strict=True):
        iio.imwrite(folder / name, image)
    return folder


def grey_images(n, height=6, width=8):
    return [np.full((height, width), i, np.uint8) for i in range(n)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"v{n}.mp4", n) for n in (25, 15, 7)]


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("long") / "long.mp4", 160, gop=10)


def read_all(loader):
    """Frames by path and number; checks that no frame comes twice and that lengths agree."""
    frames = {}
    for batch in loader:
        assert len(batch["frames"]) == len(batch["video_paths"]) == len(batch["frame_indices"])
        assert batch["frames"].dtype == torch.float32
        for frame, path, i in zip(
            batch["frames"].clone(), batch["video_paths"], batch["frame_indices"], strict=True
        ):
            assert (path, i) not in frames
            frames[path, i] = frame
    return frames


def expected_frames(paths):
    return {
        (path, i): torch.from_numpy(frame).permute(2, 0, 1).float() / 255
        for path in paths
        for i, frame in enumerate(read_frames_from_video(path)[0])
    }


def assert_same(frames, expected):
    assert frames.keys() == expected.keys()
    assert all(torch.equal(frames[key], expected[key]) for key in expected)


class TestDataset:
    def test_it_yields_all_frames_in_order_as_float32_chw(self, videos):
        items = list(VideoCollectionDataset(videos))
        expected = expected_frames(videos)
        assert [(item["video_path"], item["frame_idx"]) for item in items] == list(expected)
        assert_same({(i["video_path"], i["frame_idx"]): i["frame"] for i in items}, expected)
        assert items[0]["frame"].shape == (3, 32, 48)

    def test_paths_may_be_strings_and_come_back_as_paths(self, videos):
        item = next(iter(VideoCollectionDataset([str(videos[0])])))
        assert item["video_path"] == videos[0]
        assert isinstance(item["video_path"], Path)

    def test_the_transform_is_applied_last(self, videos):
        dataset = VideoCollectionDataset(videos[:1], transform=lambda frame: frame.mean())
        first = next(iter(expected_frames(videos[:1]).values()))
        assert next(iter(dataset))["frame"] == pytest.approx(float(first.mean()), rel=1e-6)

    def test_a_path_that_is_no_file_or_no_folder_is_an_error_that_names_it(self, videos, tmp_path):
        with pytest.raises(ValueError, match=r"absent\.mp4"):
            VideoCollectionDataset([videos[0], tmp_path / "absent.mp4"])
        with pytest.raises(ValueError, match=tmp_path.name):
            VideoCollectionDataset([tmp_path])
        with pytest.raises(ValueError, match=r"v25\.mp4"):
            VideoCollectionDataset(videos, as_image_dirs=True)

    def test_its_length_is_known_once_workers_are_assigned(self, videos):
        dataset = VideoCollectionDataset(videos)
        with pytest.raises(ValueError, match="assign_workers"):
            len(dataset)
        dataset.assign_workers(2)
        assert len(dataset) == 47

    def test_workers_get_whole_videos_where_that_balances(self, videos):
        dataset = VideoCollectionDataset(videos[:2])
        assert dataset.worker_assignments is None
        dataset.assign_workers(n_frame_loading_workers=2, n_metadata_indexing_workers=1)
        assert dataset.worker_assignments == [[videos[0]], [videos[1]]]
        assert dataset.n_frames_lookup == {videos[0]: 25, videos[1]: 15}

    def test_minus_one_means_all_cores_and_zero_one_worker(self, videos):
        dataset = VideoCollectionDataset(videos)
        dataset.assign_workers(-1)
        assert len(dataset.worker_assignments) >= 1
        dataset.assign_workers(0)
        assert dataset.worker_assignments == [videos]

    def test_no_video_is_no_frame(self):
        dataset = VideoCollectionDataset([])
        dataset.assign_workers(2)
        assert dataset.worker_assignments == [[], []]
        assert len(dataset) == 0
        assert list(dataset) == []

    def test_one_long_video_is_shared_by_all_workers(self, long_video):
        dataset = VideoCollectionDataset([long_video], split_videos=True)
        dataset.assign_workers(4)
        assert dataset.worker_assignments == [[long_video]] * 4
        assert [run.n_frames for runs in dataset._worker_runs for run in runs] == [40] * 4

    def test_indexing_writes_nothing_beside_the_videos(self, videos):
        before = sorted(videos[0].parent.iterdir())
        VideoCollectionDataset(videos).assign_workers(2)
        assert sorted(videos[0].parent.iterdir()) == before


class TestLoader:
    @pytest.mark.parametrize("num_workers", [0, 1, 2, 5])
    def test_every_frame_comes_exactly_once_and_exactly(self, videos, num_workers):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(videos), batch_size=4, num_workers=num_workers
        )
        assert_same(read_all(loader), expected_frames(videos))

    @pytest.mark.parametrize("context", ["spawn", "fork"])
    def test_workers_can_be_started_either_way(self, videos, context):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(videos),
            batch_size=4,
            num_workers=2,
            prefetch_factor=3,
            pin_memory=True,
            multiprocessing_context=multiprocessing.get_context(context),
        )
        assert_same(read_all(loader), expected_frames(videos))

    def test_one_long_video_is_read_by_all_workers_where_it_may_be_split(self, long_video):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset([long_video], split_videos=True), batch_size=8, num_workers=2
        )
        assert_same(read_all(loader), expected_frames([long_video]))
        by_half = defaultdict(list)
        for batch in loader:
            by_half[batch["frame_indices"][0] >= 80] += batch["frame_indices"]
        assert dict(by_half) == {False: list(range(80)), True: list(range(80, 160))}

    @pytest.mark.parametrize("persistent", [False, True])
    def test_every_epoch_is_whole_also_after_one_that_was_left(self, long_video, persistent):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset([long_video]),
            batch_size=8,
            num_workers=2,
            persistent_workers=persistent,
        )
        expected = expected_frames([long_video])
        assert_same(read_all(loader), expected)
        for n_batches in (1, 4):
            for _ in zip(range(n_batches), loader, strict=False):
                pass
            assert_same(read_all(loader), expected)

    def test_batches_that_are_kept_are_not_overwritten(self, long_video):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset([long_video]), batch_size=8, num_workers=2
        )
        batches = list(loader)
        views = [batch["frames"][1:, :1].numpy() for batch in batches]
        frames = expected_frames([long_video])
        for batch, view in zip(batches, views, strict=True):
            wanted = torch.stack([frames[long_video, i] for i in batch["frame_indices"]])
            assert torch.equal(batch["frames"], wanted)
            assert np.array_equal(view, wanted[1:, :1].numpy())

    def test_a_view_alone_keeps_its_batch(self, long_video):
        loader = VideoCollectionDataLoader(VideoCollectionDataset([long_video]), batch_size=8)
        views = [batch["frames"][:, 0] for batch in loader]
        frames = expected_frames([long_video])
        assert all(
            torch.equal(view[0], frames[long_video, 8 * k][0]) for k, view in enumerate(views)
        )

    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("drop_last", [False, True])
    def test_batches_are_full_but_for_the_last_of_a_share_and_len_counts_them(
        self, videos, num_workers, drop_last
    ):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(videos),
            batch_size=4,
            num_workers=num_workers,
            drop_last=drop_last,
        )
        lengths = [len(batch["frame_indices"]) for batch in loader]
        assert len(lengths) == len(loader)
        assert sum(length < 4 for length in lengths) <= (0 if drop_last else max(1, num_workers))
        assert sum(lengths) == 47 or drop_last

    @pytest.mark.parametrize("num_workers", [0, 1])
    @pytest.mark.parametrize("transform", [None, torch.neg])
    def test_a_batch_ends_where_the_size_changes(self, videos, tmp_path, num_workers, transform):
        other = make_video(tmp_path / "other.mp4", 6, 48, 32)
        paths = [videos[2], other, videos[1]]
        dataset = VideoCollectionDataset(paths, transform=transform)
        loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=num_workers)
        sizes = [tuple(batch["frames"].shape) for batch in loader]
        wide, tall = (3, 32, 48), (3, 48, 32)
        expected = [(4, *wide), (3, *wide), (4, *tall), (2, *tall), *[(4, *wide)] * 3, (3, *wide)]
        assert sizes == expected
        assert len(loader) == len(expected)

    def test_a_transform_runs_in_the_worker_on_every_frame(self, videos):
        dataset = VideoCollectionDataset(videos, transform=halved_mean)
        loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=2)
        expected = {key: halved_mean(frame) for key, frame in expected_frames(videos).items()}
        assert_same(read_all(loader), expected)

    def test_without_a_batch_size_frames_come_singly(self, videos):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(videos[2:]), batch_size=None, num_workers=1
        )
        assert [item["frame_idx"] for item in loader] == list(range(7))
        assert len(loader) == 7

    def test_it_refuses_what_0_1_3_refused(self, videos):
        dataset = VideoCollectionDataset(videos)
        with pytest.raises(ValueError, match="VideoCollectionDataset"):
            VideoCollectionDataLoader(object(), batch_size=1)
        with pytest.raises(ValueError, match="batch sampler"):
            VideoCollectionDataLoader(dataset, batch_sampler=[[1]])
        with pytest.raises(ValueError, match="collate"):
            VideoCollectionDataLoader(dataset, collate_fn=list)

    def test_it_keeps_the_attributes_of_a_data_loader(self, videos):
        dataset = VideoCollectionDataset(videos)
        loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=2, drop_last=True)
        assert loader.dataset is dataset
        assert (loader.batch_size, loader.num_workers, loader.drop_last) == (4, 2, True)

    def test_assignments_that_are_set_by_hand_are_followed(self, videos):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(videos), batch_size=64, num_workers=2
        )
        loader.dataset.worker_assignments = [[videos[2], videos[0]], [videos[1]]]
        batches = [batch["video_paths"] for batch in loader]
        assert batches == [[videos[2]] * 7 + [videos[0]] * 25, [videos[1]] * 15]


def halved_mean(frame):
    return frame.mean(0, keepdim=True) / 2


class OwnFrames(VideoCollectionDataset):
    """As users of 0.1.3 wrote it: frames of its own, no files."""

    def __init__(self, sizes=(4,) * 3):
        self.sizes = sizes

    def assign_workers(self, n_frame_loading_workers):
        pass

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            assert worker.dataset is self
        for i, size in enumerate(self.sizes):
            yield {"frame": torch.full((3, size, 5), i), "video_path": f"v{i}", "frame_idx": i}


class TestSubclass:
    def test_in_one_process_its_frames_are_stacked(self):
        (batch,) = VideoCollectionDataLoader(OwnFrames(), batch_size=3)
        assert batch["frames"].shape == (3, 3, 4, 5)
        assert batch["frames"][:, 0, 0, 0].tolist() == [0, 1, 2]
        assert batch["video_paths"] == ["v0", "v1", "v2"]
        assert batch["frame_indices"] == [0, 1, 2]

    def test_every_worker_iterates_it(self):
        batches = list(VideoCollectionDataLoader(OwnFrames(), batch_size=3, num_workers=2))
        assert [batch["frame_indices"] for batch in batches] == [[0, 1, 2]] * 2

    def test_its_frames_of_two_sizes_are_not_stacked(self):
        loader = VideoCollectionDataLoader(OwnFrames((4, 4, 6)), batch_size=3)
        assert [batch["frames"].shape for batch in loader] == [(2, 3, 4, 5), (1, 3, 6, 5)]


class TestImageFolders:
    def test_images_are_sorted_by_name_or_by_the_number_in_it(self, tmp_path):
        names = ["frame_2.png", "frame_10.png", "frame_1.png"]
        folder = make_images(tmp_path / "frames", grey_images(3), names)
        (folder / ".hidden").touch()
        by_name = VideoCollectionDataset([folder], as_image_dirs=True)
        assert [f.name for f in by_name.frame_sortings[folder]] == sorted(names)
        by_number = VideoCollectionDataset([str(folder)], True, r"frame\D*(\d+)(?!\d)")
        assert [f.name for f in by_number.frame_sortings[folder]] == [names[i] for i in (2, 0, 1)]
        assert [int(item["frame"].mul(255).mean()) for item in by_number] == [2, 0, 1]
        assert [item["frame_idx"] for item in by_number] == [0, 1, 2]

    @pytest.mark.parametrize(
        ("name", "pattern"),
        [("img_01_02.png", r"(\d+)"), ("img.png", r"(\d+)"), ("x.png", "(x)"), ("1_2", "(1)_(2)")],
    )
    def test_a_name_without_exactly_one_number_is_an_error(self, tmp_path, name, pattern):
        with pytest.raises(ValueError, match=name):
            VideoCollectionDataset._extract_frame_number(name, pattern)
        folder = tmp_path / "frames"
        folder.mkdir()
        (folder / name).touch()
        with pytest.raises(ValueError, match=name):
            VideoCollectionDataset([folder], as_image_dirs=True, frame_sorting=pattern)

    def test_the_number_in_a_name_is_found(self):
        assert VideoCollectionDataset._extract_frame_number("img_001.png", r"(\d+)") == 1

    @pytest.mark.parametrize(("shape", "channels"), [((6, 8), 1), ((6, 8, 3), 3), ((6, 8, 4), 4)])
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_images_keep_their_channels(self, tmp_path, shape, channels, num_workers):
        rng = np.random.default_rng(0)
        pixels = [rng.integers(0, 256, shape, np.uint8) for _ in range(5)]
        folder = make_images(tmp_path / "frames", pixels)
        dataset = VideoCollectionDataset([folder], as_image_dirs=True)
        loader = VideoCollectionDataLoader(dataset, batch_size=2, num_workers=num_workers)
        assert len(dataset) == 5
        expected = {
            (folder, i): torch.from_numpy(image.reshape(6, 8, channels)).permute(2, 0, 1).float()
            / 255
            for i, image in enumerate(pixels)
        }
        assert_same(read_all(loader), expected)

    def test_images_of_16_bits_are_scaled_to_one_without_loss(self, tmp_path):
        pixels = np.array([[0, 1, 65535]], np.uint16)
        folder = make_images(tmp_path / "frames", [pixels])
        dataset = VideoCollectionDataset([folder], as_image_dirs=True)
        (batch,) = VideoCollectionDataLoader(dataset, batch_size=2)
        expected = torch.tensor([0, 1 / 65535, 1])
        assert torch.equal(batch["frames"][0, 0, 0], expected)
        assert torch.equal(next(iter(dataset))["frame"][0, 0], expected)

    def test_images_of_two_kinds_are_never_stacked(self, tmp_path):
        pixels = [*grey_images(3), np.zeros((6, 8, 3), np.uint8), np.zeros((5, 8, 3), np.uint8)]
        dataset = VideoCollectionDataset([make_images(tmp_path / "f", pixels)], as_image_dirs=True)
        loader = VideoCollectionDataLoader(dataset, batch_size=4)
        shapes = [(3, 1, 6, 8), (1, 3, 6, 8), (1, 3, 5, 8)]
        assert [batch["frames"].shape for batch in loader] == shapes

    def test_one_long_folder_is_shared_by_all_workers(self, tmp_path):
        folder = make_images(tmp_path / "frames", grey_images(40))
        dataset = VideoCollectionDataset([folder], as_image_dirs=True, split_videos=True)
        loader = VideoCollectionDataLoader(dataset, batch_size=5, num_workers=2)
        assert dataset.worker_assignments == [[folder]] * 2
        assert len(read_all(loader)) == 40

    def test_a_file_that_is_no_image_is_skipped_with_a_warning(self, tmp_path, caplog):
        folder = make_images(tmp_path / "frames", grey_images(3))
        (folder / "001.png").write_bytes(b"x")
        dataset = VideoCollectionDataset([folder], as_image_dirs=True, on_error="warn")
        assert [item["frame_idx"] for item in dataset] == [0, 2]
        assert "001.png" in caplog.text
        assert "frame 1" in caplog.text


class TestDamage:
    def test_an_unreadable_video_does_not_stop_the_others(self, videos, tmp_path, caplog):
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no video")
        paths = [videos[0], broken, videos[1]]
        for num_workers in (0, 2):
            caplog.clear()
            loader = VideoCollectionDataLoader(
                VideoCollectionDataset(paths, on_error="warn"),
                batch_size=4,
                num_workers=num_workers,
            )
            assert_same(read_all(loader), expected_frames([videos[0], videos[1]]))
            assert "broken.mp4" in caplog.text
            assert loader.dataset.n_frames_lookup[broken] == 0

    def test_a_video_that_vanishes_does_not_stop_the_others(self, videos, tmp_path, caplog):
        gone = make_video(tmp_path / "gone.mp4", 5)
        dataset = VideoCollectionDataset([gone, videos[0]], on_error="warn")
        loader = VideoCollectionDataLoader(dataset, batch_size=4)
        gone.unlink()
        assert_same(read_all(loader), expected_frames([videos[0]]))
        assert "gone.mp4" in caplog.text

    def test_damaged_frames_are_skipped_with_one_warning_and_keep_the_numbers(
        self, tmp_path, caplog
    ):
        path = make_video(tmp_path / "damaged.mp4", 30, gop=10)
        zero_the_pictures(path, range(10, 20))
        with caplog.at_level(logging.WARNING):
            dataset = VideoCollectionDataset([path], on_error="warn")
            ranks = [item["frame_idx"] for item in dataset]
        assert ranks == [*range(10), *range(20, 30)]
        warnings = [record.getMessage() for record in caplog.records if "damaged" in record.message]
        assert warnings == [f"{path}: frames 10 to 19 are damaged and skipped"]


def test_the_readme_example_of_0_1_3_runs(tmp_path):
    make_video(tmp_path / "video1.mp4", 12)
    make_video(tmp_path / "video2.mp4", 9)
    paths = [str(tmp_path / "video1.mp4"), str(tmp_path / "video2.mp4")]
    ds = VideoCollectionDataset(paths)
    loader = VideoCollectionDataLoader(ds, batch_size=8, num_workers=4)
    n_frames = 0
    for batch in loader:
        frames = batch["frames"]
        video_paths = batch["video_paths"]
        frame_indices = batch["frame_indices"]
        assert frames.shape[1:] == (3, 32, 48)
        n_frames += len(video_paths)
        assert len(frame_indices) == len(frames)
    assert n_frames == 21


def zero_the_pictures(video, ranks):
    """Overwrite the coded pictures of some frames; the container's tables stay as they are."""
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        pts = sorted(packet.pts for packet in packets)
        wanted = {pts[rank] for rank in ranks}
        spans = [(packet.pos, packet.size) for packet in packets if packet.pts in wanted]
    data = bytearray(video.read_bytes())
    for start, size in spans:
        data[start : start + size] = bytes(size)
    video.write_bytes(data)


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("channels", ["rgb", "gray"])
def test_integers_are_those_that_the_floats_are_made_of(videos, channels, n_workers):
    def batches(dtype):
        dataset = VideoCollectionDataset(videos, channels=channels, dtype=dtype)
        loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=n_workers)
        return {
            (path, i): frame.clone()
            for batch in loader
            for frame, path, i in zip(
                batch["frames"], batch["video_paths"], batch["frame_indices"], strict=True
            )
        }

    integers, floats = batches("uint8"), batches("float32")
    assert integers.keys() == floats.keys()
    for key, frame in integers.items():
        assert frame.dtype == torch.uint8
        assert frame.shape == ({"rgb": 3, "gray": 1}[channels], 32, 48)
        assert torch.equal(frame.float() / 255, floats[key])


def test_very_many_integer_batches_may_be_held(tmp_path):
    path = make_video(tmp_path / "v.mp4", 400)
    dataset = VideoCollectionDataset([path], dtype="uint8")
    before = len(os.listdir("/proc/self/fd"))
    held = [batch["frames"] for batch in VideoCollectionDataLoader(dataset, num_workers=1)]
    assert len(os.listdir("/proc/self/fd")) - before < 300
    expected = read_frames_from_video(path)[0]
    assert all(
        np.array_equal(frames[0].permute(1, 2, 0).numpy(), picture)
        for frames, picture in zip(held, expected, strict=True)
    )


def test_memory_of_floats_is_used_again_while_some_batches_are_held():
    buffers = FloatBuffers()
    pixels = torch.zeros((2, 3, 8, 8), dtype=torch.uint8)
    with ThreadPoolExecutor(1) as threads:
        held = [buffers.convert(pixels, threads) for _ in range(5)]
        places = set()
        for _ in range(10):
            batch = buffers.convert(pixels, threads)
            places.add(batch.data_ptr())
            del batch
    assert len(places) == 1
    assert len({batch.data_ptr() for batch in held}) == 5


def test_gray_is_the_luma_plane(videos):
    with av.open(str(videos[0])) as container:
        frame = next(container.decode(video=0))
        luma = frame.to_ndarray()[: frame.height, : frame.width]
    item = next(iter(VideoCollectionDataset(videos[:1], channels="gray", dtype="uint8")))
    assert np.array_equal(item["frame"][0], luma)


@pytest.mark.parametrize(
    "options",
    [{"channels": "bgr"}, {"dtype": "float16"}, {"channels": "gray", "as_image_dirs": True}],
)
def test_unknown_kinds_of_frames_are_refused(tmp_path, options):
    paths = [tmp_path] if "as_image_dirs" in options else []
    with pytest.raises(ValueError, match="must be"):
        VideoCollectionDataset(paths, **options)
