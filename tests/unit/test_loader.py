import contextlib
import copy
import itertools
import logging
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch
from torch.utils.data import ChainDataset, DataLoader, Dataset, IterableDataset, get_worker_info
from torch.utils.data.datapipes.iter import IterableWrapper

from pvio.loader.float_buffers import FloatBuffers
from pvio.loader.frame_ranges import FrameRange
from pvio.media.decode.reader import open_reader
from pvio.media.index.cached import load_index
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
        assert [each.n_frames for ranges in dataset._worker_ranges for each in ranges] == [40] * 4

    def test_indexing_writes_nothing_next_to_the_videos(self, videos):
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


def named(items):
    """Names and numbers of frames, of items or batches."""
    pairs = []
    for item in items:
        if "frame" in item:
            pairs.append((item["video_path"].name, item["frame_idx"]))
        else:
            names = (path.name for path in item["video_paths"])
            pairs += zip(names, item["frame_indices"], strict=True)
    return pairs


def all_named(paths):
    return [(path.name, i) for path in paths for i in range(int(path.stem[1:]))]


class Wrapped(IterableDataset):
    """A dataset of another library, which iterates one of ours in every worker."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        yield from self.dataset


class SharedByItself(IterableDataset):
    """A dataset of another library, which shares ours among the workers; yields warnings."""

    def __init__(self, datasets, shares):
        self.datasets, self.shares = datasets, shares

    def __iter__(self):
        info = get_worker_info()
        mine = self.datasets[info.id :: info.num_workers] if self.shares else self.datasets
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for dataset in mine:
                list(dataset)
        yield [(str(one.message), Path(one.filename).name) for one in caught]


class Items(Dataset):
    """A map-style dataset of another library; an item is all frames of a collection."""

    def __init__(self, datasets):
        self.datasets = datasets

    def __len__(self):
        return len(self.datasets)

    def __getitem__(self, i):
        return named(self.datasets[i]() if callable(self.datasets[i]) else self.datasets[i])


def flat(loader):
    return [frame for items in loader for frame in items]


class TestWorkersOfOtherLoaders:
    def frames_read(self, top, n_workers):
        return named(flat(DataLoader(top, 5, num_workers=n_workers, collate_fn=list)))

    @pytest.mark.parametrize(
        ("wrap", "n_workers", "n_assigned"),
        [
            (lambda dataset: dataset, 2, 2),
            (lambda dataset: dataset, 1, 2),
            (lambda dataset: dataset, 2, 3),
            (lambda dataset: dataset, 3, 1),
            (lambda dataset: dataset, 1, None),
            (lambda dataset: ChainDataset([ChainDataset([dataset])]), 2, 3),
            (Wrapped, 2, 2),
            (Wrapped, 1, 2),
            (Wrapped, 0, 2),
        ],
    )
    def test_every_frame_comes_exactly_once(self, videos, wrap, n_workers, n_assigned):
        dataset = VideoCollectionDataset(videos)
        if n_assigned:
            dataset.assign_workers(n_assigned)
        assert sorted(self.frames_read(wrap(dataset), n_workers)) == sorted(all_named(videos))

    @pytest.mark.parametrize(
        ("wrap", "n_assigned"), [(lambda dataset: dataset, None), (Wrapped, 1), (Wrapped, 3)]
    )
    def test_what_would_lose_or_repeat_frames_is_an_error(self, videos, wrap, n_assigned):
        dataset = VideoCollectionDataset(videos)
        if n_assigned:
            dataset.assign_workers(n_assigned)
        with pytest.raises(ValueError, match="assign_workers"):
            self.frames_read(wrap(dataset), 2)

    @pytest.mark.parametrize("shares", [True, False])
    def test_a_share_that_another_dataset_reads_is_warned_of_once_per_worker(self, videos, shares):
        datasets = [VideoCollectionDataset(videos) for _ in range(4)]
        for dataset in datasets:
            dataset.assign_workers(2)
        top = SharedByItself(datasets, shares)
        loader = DataLoader(top, None, num_workers=2, persistent_workers=True)
        for n_expected in (1, 0):  # epochs
            for caught in loader:
                assert len(caught) == n_expected
                for text, file in caught:
                    assert "SharedByItself shares" in text
                    assert "make the VideoCollectionDataset in the worker" in text
                    assert file == "test_loader.py"

    def test_shares_that_lose_nothing_are_read_without_a_warning(self, videos):
        def be_strict(_):
            warnings.filterwarnings("error", ".*VideoCollectionDataset")

        strict = {"worker_init_fn": be_strict, "collate_fn": list}

        def read(top, n_workers):
            return flat(DataLoader(top, 5, num_workers=n_workers, **strict))

        dataset = VideoCollectionDataset(videos)
        list(VideoCollectionDataLoader(dataset, num_workers=2, worker_init_fn=be_strict))
        for top in (dataset, ChainDataset([dataset])):
            read(top, 2)
        with pytest.raises(UserWarning, match="Wrapped reads"):
            read(Wrapped(dataset), 2)
        read(Wrapped(dataset), 1)

    def test_a_data_pipe_that_shares_the_frames_itself_meets_all_of_them(self, videos):
        for share in (lambda pipe: pipe, lambda pipe: pipe.sharding_filter()):
            dataset = VideoCollectionDataset(videos)
            dataset.assign_workers(2)
            pipe = share(IterableWrapper(dataset))
            assert sorted(self.frames_read(pipe, 2)) == sorted(all_named(videos))

    def test_an_item_of_a_map_style_dataset_is_read_whole(self, videos):
        datasets = [VideoCollectionDataset(videos) for _ in range(4)]
        for dataset in datasets[1:]:
            dataset.assign_workers(2)
        items = DataLoader(Items(datasets), batch_size=None, num_workers=2, collate_fn=list)
        assert list(items) == [all_named(videos)] * 4

    @pytest.mark.parametrize("batch_size", [4, None])
    def test_what_is_made_in_a_worker_is_read_whole(self, videos, batch_size):
        def loader():
            dataset = VideoCollectionDataset(videos)
            return VideoCollectionDataLoader(dataset, batch_size=batch_size)

        def dataset():
            return VideoCollectionDataset(videos)

        for top in (Items([loader, dataset] * 2), Wrapped(Items([loader, dataset]))):
            frames = list(DataLoader(top, batch_size=None, num_workers=2, collate_fn=list))
            assert frames == [all_named(videos)] * 4

    def test_a_loader_without_workers_reads_all_in_whatever_process(self, videos):
        loader = VideoCollectionDataLoader(VideoCollectionDataset(videos), batch_size=4)
        items = DataLoader(Items([loader] * 2), batch_size=None, num_workers=2, collate_fn=list)
        assert list(items) == [all_named(videos)] * 2

    def test_a_dataset_may_be_assigned_in_the_worker(self, videos):
        def assign(_):
            info = get_worker_info()
            info.dataset.assign_workers(info.num_workers, 1)

        dataset = VideoCollectionDataset(videos)
        loader = DataLoader(dataset, 5, num_workers=2, collate_fn=list, worker_init_fn=assign)
        assert sorted(named(flat(loader))) == sorted(all_named(videos))

    @pytest.mark.parametrize("n_lists", [1, 3])
    def test_assignments_by_hand_must_be_for_the_number_of_workers(self, videos, n_lists):
        dataset = VideoCollectionDataset(videos)
        ours = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=2)
        dataset.worker_assignments = [[videos[1]], [videos[0]], [videos[2]]][:n_lists]
        theirs = DataLoader(dataset, 4, num_workers=2, collate_fn=list)
        for loader in (ours, theirs):
            with pytest.raises(ValueError, match="one list per worker"):
                list(loader)

    def test_two_loaders_over_one_dataset_both_read_all(self, videos):
        dataset = VideoCollectionDataset(videos)
        loaders = [
            VideoCollectionDataLoader(dataset, batch_size=4, num_workers=n) for n in (2, 3, 0)
        ]
        for loader in loaders:
            batches = list(loader)
            assert sorted(named(batches)) == sorted(all_named(videos))
            assert len(batches) == len(loader)
        pairs = list(itertools.zip_longest(*loaders[:2], fillvalue={}))  # at the same time
        for k in range(2):
            batches = [pair[k] for pair in pairs if pair[k]]
            assert sorted(named(batches)) == sorted(all_named(videos))


class TestOrder:
    @pytest.mark.parametrize("num_workers", [1, 2, 3])
    def test_the_frames_of_a_video_come_in_ascending_order(self, long_video, videos, num_workers):
        paths = [videos[2], long_video, videos[1]]
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(paths), batch_size=8, num_workers=num_workers
        )
        numbers = defaultdict(list)
        for batch in loader:
            for path, i in zip(batch["video_paths"], batch["frame_indices"], strict=True):
                numbers[path].append(i)
        assert numbers == {
            path: list(range(n)) for path, n in zip(paths, (7, 160, 15), strict=True)
        }
        assigned = [path for share in loader.dataset.worker_assignments for path in share]
        assert sorted(assigned) == sorted(paths)  # each video in one worker

    def test_a_long_image_folder_stays_whole_too(self, tmp_path):
        folder = make_images(tmp_path / "frames", grey_images(30))
        dataset = VideoCollectionDataset([folder], as_image_dirs=True)
        loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=2)
        assert [i for batch in loader for i in batch["frame_indices"]] == list(range(30))


class Counting(VideoCollectionDataLoader):
    @staticmethod
    def _collate(batch):
        return [tuple(item["frame"].shape) for item in batch]


class CountingItsOwn(VideoCollectionDataLoader):
    def _collate(self, batch):
        return (self.batch_size, len(batch))


class TestRebuiltLoaders:
    """What accelerate, Lightning and others do with a loader: they make another of its parts."""

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_loader_made_of_its_attributes_yields_the_same_batches(self, videos, num_workers):
        ours = VideoCollectionDataLoader(
            VideoCollectionDataset(videos), batch_size=4, num_workers=num_workers
        )
        names = ("batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout")
        theirs = DataLoader(ours.dataset, **{name: getattr(ours, name) for name in names})
        assert_same(read_all(theirs), expected_frames(videos))

    @pytest.mark.parametrize("kind", [VideoCollectionDataLoader, Counting, CountingItsOwn])
    @pytest.mark.parametrize("batch_size", [4, None])
    def test_the_class_takes_what_its_loaders_have(self, videos, kind, batch_size):
        loader = kind(VideoCollectionDataset(videos), batch_size=batch_size)
        again = type(loader)(
            dataset=loader.dataset,
            batch_size=batch_size,
            collate_fn=loader.collate_fn,
            sampler=None,
            batch_sampler=None,
        )
        if kind is VideoCollectionDataLoader:
            assert named(again) == all_named(videos)

    def test_frames_of_two_sizes_that_another_loader_stacks_are_a_readable_error(
        self, videos, tmp_path
    ):
        other = make_video(tmp_path / "other.mp4", 6, 48, 32)
        ours = VideoCollectionDataLoader(VideoCollectionDataset([videos[2], other]), batch_size=4)
        theirs = DataLoader(ours.dataset, batch_size=4, collate_fn=ours.collate_fn)
        with pytest.raises(ValueError, match=r"v7\.mp4, \(3, 32, 48\), and of .*other\.mp4"):
            list(theirs)

    def test_a_subclass_may_collate_its_own_way_frames_of_all_sizes_together(
        self, videos, tmp_path
    ):
        other = make_video(tmp_path / "other.mp4", 6, 48, 32)
        dataset = VideoCollectionDataset([videos[2], other])
        for num_workers in (0, 1):
            wide, tall = (3, 32, 48), (3, 48, 32)
            batches = list(Counting(dataset, batch_size=5, num_workers=num_workers))
            assert batches == [[wide] * 5, [wide] * 2 + [tall] * 3, [tall] * 3]
            own = list(CountingItsOwn(dataset, batch_size=5, num_workers=num_workers))
            assert own == [(5, 5), (5, 5), (5, 3)]

    def test_accelerate_prepares_it(self, videos):
        accelerate = pytest.importorskip("accelerate")
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(videos), batch_size=4, num_workers=2
        )
        prepared = accelerate.Accelerator(cpu=True).prepare(loader)
        assert sorted(named(prepared)) == sorted(all_named(videos))

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_lightning_predicts_and_overfits(self, videos, num_workers):
        lightning = pytest.importorskip("lightning")

        class Model(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(3, 1)
                self.seen = []

            def predict_step(self, batch, _):
                return named([batch])

            def training_step(self, batch, _):
                self.seen += named([batch])
                return self.layer(batch["frames"].mean((2, 3))).mean()

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)

        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(videos), batch_size=4, num_workers=num_workers
        )
        quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        how = dict.fromkeys(quiet, False) | {"accelerator": "cpu", "max_epochs": 1}
        model = Model()
        predicted = lightning.Trainer(**how).predict(model, loader)
        assert sorted(flat(predicted)) == sorted(all_named(videos))
        lightning.Trainer(**how, overfit_batches=3).fit(model, loader)
        assert len(set(model.seen)) == 12


class TestCopies:
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
    @pytest.mark.parametrize("options", [{}, {"num_workers": 1, "persistent_workers": True}])
    def test_loaders_and_datasets_can_be_copied_also_while_they_are_read(
        self, videos, copied, options
    ):
        loader = VideoCollectionDataLoader(
            VideoCollectionDataset(videos, split_videos=True), batch_size=4, **options
        )
        assert named(copied(loader)) == all_named(videos)
        batches = iter(loader)
        next(batches)
        for each in (copied(loader), copied(loader.dataset)):
            assert named(each) == all_named(videos)
        assert len(named(batches)) == 43

    def test_a_dataset_that_0_1_3_pickled_can_be_read(self, videos):
        dataset = VideoCollectionDataset.__new__(VideoCollectionDataset)
        dataset.__dict__ = {
            "video_paths": videos,
            "worker_assignments": [videos],
            "as_image_dirs": False,
            "frame_sorting": None,
            "n_frames_lookup": {path: int(path.stem[1:]) for path in videos},
            "transform": None,
            "frame_sortings": {},
        }
        assert named(dataset) == all_named(videos)
        loader = DataLoader(dataset, 4, num_workers=1, collate_fn=list)
        assert named(flat(loader)) == all_named(videos)


def set_up_worker(_):
    dataset = get_worker_info().dataset
    assert isinstance(dataset, VideoCollectionDataset)
    dataset.transform = torch.neg


def test_worker_init_fn_meets_the_dataset_and_may_set_it_up(videos):
    loader = VideoCollectionDataLoader(
        VideoCollectionDataset(videos[2:]), num_workers=1, worker_init_fn=set_up_worker
    )
    expected = {key: -frame for key, frame in expected_frames(videos[2:]).items()}
    assert_same(read_all(loader), expected)


def test_a_loader_may_be_read_in_a_thread(videos):
    loader = VideoCollectionDataLoader(VideoCollectionDataset(videos), batch_size=4, num_workers=1)
    frames = []
    thread = threading.Thread(target=lambda: frames.extend(named(loader)))
    thread.start()
    thread.join(60)
    assert frames == all_named(videos)


def test_ctrl_c_leaves_no_process(videos):
    script = """
import os, signal, sys, time
import psutil
from pvio.torch import VideoCollectionDataLoader, VideoCollectionDataset
# As in a terminal, also where these tests run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
loader = VideoCollectionDataLoader(VideoCollectionDataset(sys.argv[1:]), num_workers=2)
try:
    for batch in loader:
        children = psutil.Process().children(recursive=True)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
except KeyboardInterrupt:
    print("workers", *[child.pid for child in children])
"""
    command = [sys.executable, "-c", script, *map(str, videos)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    pids = done.stdout.removeprefix("workers").split()
    assert len(pids) >= 2, done.stderr
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


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
        [
            ("img_01_02.png", r"(\d+)"),
            ("img.png", r"(\d+)"),
            ("x.png", "(x)"),
            ("1_2.png", "(1)_(2)"),
        ],
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

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_all_unreadable_videos_are_named_at_once_before_any_is_read(
        self, videos, tmp_path, num_workers
    ):
        broken = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
        for path in broken:
            path.write_bytes(b"no video")
        dataset = VideoCollectionDataset([videos[0], *broken])
        with pytest.raises(RuntimeError, match=r"(?s)Failed to open .*one\.mp4.*two\.mp4.*warn"):
            VideoCollectionDataLoader(dataset, batch_size=4, num_workers=num_workers)
        with pytest.raises(RuntimeError, match=r"one\.mp4"):
            list(dataset)

    @pytest.mark.parametrize("num_workers", [0, 1])
    @pytest.mark.parametrize("transform", [None, torch.neg])
    def test_a_video_that_is_removed_is_an_error(self, videos, tmp_path, num_workers, transform):
        removed = Path(shutil.copy(videos[2], tmp_path / "gone.mp4"))
        dataset = VideoCollectionDataset([videos[1], removed], transform=transform)
        loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=num_workers)
        removed.unlink()
        with pytest.raises(RuntimeError, match=r"gone\.mp4"):
            list(loader)

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_video_that_was_replaced_is_called_changed(
        self, videos, tmp_path, num_workers, caplog
    ):
        path = tmp_path / "v.mp4"
        for on_error in ("raise", "warn"):
            shutil.copy(videos[0], path)
            dataset = VideoCollectionDataset([path, videos[2]], on_error=on_error)
            loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=num_workers)
            before = path.stat()
            replace_a_byte(path)  # with the same size and modification time, as `cp -p` makes them
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            if on_error == "raise":
                with pytest.raises(RuntimeError, match=r"v\.mp4: the file has changed"):
                    list(loader)
            else:
                assert named(loader) == all_named(videos[2:])
                assert num_workers or "the file has changed" in caplog.text

    def test_a_video_that_was_only_touched_or_copied_is_the_same(self, videos, tmp_path):
        path = Path(shutil.copy(videos[2], tmp_path / "v7.mp4"))
        loader = VideoCollectionDataLoader(VideoCollectionDataset([path]), batch_size=4)
        os.utime(path)
        assert named(loader) == all_named([path])
        path.unlink()
        shutil.copy(videos[2], path)
        assert named(loader) == all_named([path])

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_damaged_frame_is_an_error_that_names_it(self, tmp_path, num_workers):
        path = make_video(tmp_path / "damaged.mp4", 30, gop=10)
        zero_the_frames(path, range(10, 20))
        dataset = VideoCollectionDataset([path])
        loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=num_workers)
        for source in (dataset, loader):
            with pytest.raises(RuntimeError, match=r"damaged\.mp4: frame 10 is damaged.*warn"):
                list(source)

    def test_images_that_cannot_be_read_are_errors_of_0_1_3s_kinds(self, tmp_path):
        folder = make_images(tmp_path / "frames", grey_images(3))
        dataset = VideoCollectionDataset([folder], as_image_dirs=True)
        (folder / "001.png").write_bytes(b"x")
        with pytest.raises(RuntimeError, match=r"001\.png"):
            list(dataset)
        (folder / "001.png").unlink()
        for num_workers in (0, 1):
            with pytest.raises(FileNotFoundError, match=r"001\.png"):
                list(VideoCollectionDataLoader(dataset, num_workers=num_workers))

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_an_epoch_without_a_frame_is_an_error(self, videos, tmp_path, num_workers):
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no video")
        (tmp_path / "empty").mkdir()
        for dataset, text in (
            (VideoCollectionDataset([broken], on_error="warn"), r"none of the 1 video.*broken"),
            (VideoCollectionDataset([tmp_path / "empty"], True), "none of the 1 image folder"),
            (VideoCollectionDataset([]), "is empty"),
        ):
            loader = VideoCollectionDataLoader(dataset, batch_size=4, num_workers=num_workers)
            with pytest.raises(RuntimeError, match=text):
                list(loader)
            if dataset.video_paths:
                with pytest.raises(RuntimeError, match=text):
                    list(dataset)
        few = VideoCollectionDataset(videos[2:])
        assert not list(VideoCollectionDataLoader(few, batch_size=9, drop_last=True))

    def test_a_video_that_is_removed_does_not_stop_the_others(self, videos, tmp_path, caplog):
        removed = make_video(tmp_path / "gone.mp4", 5)
        dataset = VideoCollectionDataset([removed, videos[0]], on_error="warn")
        loader = VideoCollectionDataLoader(dataset, batch_size=4)
        removed.unlink()
        assert_same(read_all(loader), expected_frames([videos[0]]))
        assert "gone.mp4" in caplog.text

    def test_damaged_frames_are_skipped_with_one_warning_and_keep_the_numbers(
        self, tmp_path, caplog
    ):
        path = make_video(tmp_path / "damaged.mp4", 30, gop=10)
        zero_the_frames(path, range(10, 20))
        with caplog.at_level(logging.WARNING):
            dataset = VideoCollectionDataset([path], on_error="warn")
            frame_numbers = [item["frame_idx"] for item in dataset]
        assert frame_numbers == [*range(10), *range(20, 30)]
        warnings = [record.getMessage() for record in caplog.records if "damaged" in record.message]
        assert warnings == [f"{path}: frames 10 to 19 are damaged and skipped"]

    @pytest.mark.parametrize("on_error", ["raise", "warn"])
    def test_suspect_frames_are_given_with_one_warning_a_video(
        self, videos, tmp_path, caplog, on_error
    ):
        parts = [make_video(tmp_path / f"{n}.ts", n, gop=8).read_bytes() for n in (15, 16)]
        path = tmp_path / "joined.ts"
        path.write_bytes(b"".join(parts))  # at the join a packet counts as incomplete
        index = load_index(path)
        with contextlib.closing(open_reader(index)) as reader:
            statuses = [frame.status for frame in reader.frames(0, index.n_frames)]
        n_suspect = statuses.count("suspect")
        assert n_suspect + statuses.count("ok") == 31
        assert n_suspect > 1
        expected_start = f"{n_suspect} frames of {path} are suspect: damage"
        dataset = VideoCollectionDataset([videos[2], path], on_error=on_error)
        dataset.assign_workers(1)
        ranges = [
            FrameRange(videos[2], 0, 7),
            *(FrameRange(path, start, start + 8) for start in range(0, 31, 8)),
        ]
        for read in (
            lambda: list(dataset),
            lambda: [frame.pixels() for frame in dataset._frames(ranges)],  # of a split video
            lambda: read_frames_from_video(path),
        ):
            caplog.clear()
            read()
            (warning,) = caplog.messages
            assert warning.startswith(expected_start)
        caplog.clear()
        read_frames_from_video(path, [statuses.index("ok")])
        assert not caplog.messages


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


def replace_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def zero_the_frames(video, frame_numbers):
    """Overwrite the coded data of some frames; the container's tables stay as they are."""
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        pts = sorted(packet.pts for packet in packets)
        wanted = {pts[number] for number in frame_numbers}
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
    [
        {"channels": "bgr"},
        {"dtype": "float16"},
        {"channels": "gray", "as_image_dirs": True},
        {"on_error": "skip"},
    ],
)
def test_unknown_kinds_of_frames_are_refused(tmp_path, options):
    paths = [tmp_path] if "as_image_dirs" in options else []
    with pytest.raises(ValueError, match="must be"):
        VideoCollectionDataset(paths, **options)


def test_paths_may_be_bytes_and_a_single_path_is_refused(videos):
    dataset = VideoCollectionDataset([os.fsencode(videos[2])])
    assert named(dataset) == all_named(videos[2:])
    for path in (str(videos[2]), videos[2], os.fsencode(videos[2])):
        with pytest.raises(ValueError, match="list of paths"):
            VideoCollectionDataset(path)
    with pytest.raises(ValueError, match="expanduser"):
        VideoCollectionDataset(["~/absent.mp4"])


def test_a_stack_in_a_folder_of_images_is_an_error_that_says_what_to_do(tmp_path: Path):
    pages = np.zeros((3, 8, 10), np.uint8)
    iio.imwrite(tmp_path / "a.png", pages[0])
    tifffile.imwrite(tmp_path / "b.tif", pages, photometric="minisblack")
    with pytest.raises(RuntimeError, match=r"b\.tif: it has 3 pages .*without `as_image_dirs`"):
        list(VideoCollectionDataset([tmp_path], as_image_dirs=True))
