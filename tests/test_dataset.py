"""Real videos become batches: the right frames, the same for any number of workers, bad files by name."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.clip import ClipSpec
from foveate.data import pool
from foveate.data.dataset import Batch, EpochSampler, VideoDataset, collate, make_loader, read_cut
from foveate.data.lists import VideoEntry
from foveate.data.workers import WatchedLoader
from foveate.errors import DataError, FoveateError, UsageError
from foveate.models.zoo import create_model
from foveate.train.objective import clips_of
from foveate.video import open_video
from foveate.video.base import CHUNK
from foveate.video.sample import clip_indices, segments, views
from foveate.video.transform import Augment, train_transform
from foveate.video.transform import test_transform as centre_crops
from make_bad_videos import encode, read_index

SPEC = ClipSpec(
    frames=4, size=64, resize=64
)  # as high as the videos, so that the middle keeps 5 of 8 bar bits
LENGTHS = (24, 20, 16, 12, 9, 3)


def bars(index: int) -> np.ndarray:
    """A square picture with its index as a bar code."""
    rgb = np.full((64, 64, 3), 90, np.uint8)
    for bit in range(8):
        rgb[:16, bit * 8 : bit * 8 + 8] = 255 if index >> (7 - bit) & 1 else 0
    return rgb


@pytest.fixture(scope="module")
def entries(tmp_path_factory) -> list[VideoEntry]:
    """Six H.264 videos of 24 to 3 frames and three classes."""
    folder = tmp_path_factory.mktemp("videos")
    for number, length in enumerate(LENGTHS):
        encode(folder / f"{number}.mp4", size=(64, 64), n=length, image=bars)
    return [VideoEntry(str(folder / f"{number}.mp4"), (number % 3,)) for number in range(len(LENGTHS))]


@pytest.fixture
def broken(tmp_path) -> VideoEntry:
    path = tmp_path / "page.mp4"
    path.write_text("<html>not a video</html>")
    return VideoEntry(str(path), (0,))


def numbers(clip: torch.Tensor) -> list[int]:
    """The bar codes of (T, S, S, C)."""
    return [read_index(frame.numpy()) for frame in clip]


def training(entries, **fields) -> VideoDataset:
    return VideoDataset(entries, SPEC, 3, augment=Augment(crop="center", flip=False), **fields)


def batches(dataset, **fields) -> list[Batch]:
    settings = {"batch": 2, "epoch": 0, "seed": 0, "shuffle": True, "workers": 0} | fields
    return list(make_loader(dataset, **settings))


def test_a_test_sample_holds_the_middle_frames_of_each_part(entries):
    dataset = VideoDataset(entries, SPEC, 3)
    for index, length in enumerate(LENGTHS):
        sample = dataset[0, index]
        assert sample.frames.shape == (1, 4, 64, 64, 3)
        assert sample.frames.dtype == torch.uint8
        assert numbers(sample.frames[0]) == segments(length, 4)
        assert (sample.label.item(), sample.index, sample.bad) == (index % 3, index, None)
        assert sample.label.dtype == torch.int64


def test_views_are_clips_times_crops(entries):
    dataset = VideoDataset(entries, replace(SPEC, size=48), 3, clips=2, crops=3)
    assert dataset[0, 0].frames.shape == (6, 4, 48, 48, 3)
    whole = VideoDataset(entries, SPEC, 3, clips=2)[0, 0].frames
    assert [numbers(clip) for clip in whole] == views(24, SPEC, 2)


def test_a_training_sample_is_a_function_of_seed_epoch_and_index(entries):
    dataset = training(entries, seed=7)
    rng = np.random.default_rng((7, 2, 0))
    assert numbers(dataset[2, 0].frames[0]) == clip_indices(24, SPEC, rng)
    later = [dataset[2, index].frames for index in (3, 0)][1]
    assert torch.equal(later, training(entries, seed=7)[2, 0].frames)
    others = [dataset[epoch, 0] for epoch in range(5)] + [
        training(entries, seed=seed)[2, 0] for seed in range(5)
    ]
    assert len({tuple(numbers(sample.frames[0])) for sample in others}) > 5


def test_shared_jitter_reaches_the_sampling(entries):
    dataset = VideoDataset(entries, SPEC, 3, augment=Augment(crop="center", flip=False, jitter="shared"))
    for epoch in range(5):
        assert set(np.diff(numbers(dataset[epoch, 0].frames[0]))) == {6}


def test_a_part_of_a_video_shifts_its_frames(entries):
    path = entries[0].path
    parts = [
        VideoEntry(path, (0,), start=4, end=12),
        VideoEntry(path, (0,), start=20),
        VideoEntry(path, (0,), frames=8),
        VideoEntry(path, (0,), start_s=1.0, end_s=1.5),  # 12 frames a second
        VideoEntry(path, (0,), start_s=1.5, end_s=99.0),
    ]
    dataset = VideoDataset(parts, SPEC, 1)
    got = [numbers(dataset[0, index].frames[0]) for index in range(5)]
    assert got == [[5, 7, 9, 11], [20, 21, 22, 23], [1, 3, 5, 7], [12, 14, 15, 17], [18, 20, 21, 23]]


def test_labels_of_one_or_many_classes(entries):
    dataset = VideoDataset(
        [replace(entries[0], labels=(0, 2)), replace(entries[0], labels=())], SPEC, 4, True
    )
    assert dataset[0, 0].label.tolist() == [1, 0, 1, 0]
    assert dataset[0, 1].label.tolist() == [0, 0, 0, 0]
    assert VideoDataset([replace(entries[0], labels=())], SPEC, 4)[0, 0].label.item() == -1


@pytest.mark.parametrize(("labels", "cause"), [((3,), "label 3"), ((-1,), "label -1"), ((0, 1), "2 labels")])
def test_impossible_labels_are_refused_before_reading(entries, labels, cause):
    with pytest.raises(DataError, match=cause) as caught:
        VideoDataset([replace(entries[0], labels=labels)], SPEC, 3)
    assert caught.value.subject == entries[0].path


def test_impossible_views_are_refused_before_reading(entries):
    for fields in ({"crops": 2}, {"clips": 0}, {"clips": 2, "augment": Augment()}):
        with pytest.raises(UsageError):
            VideoDataset(entries, SPEC, 3, **fields)


def test_bad_files_are_named_and_nothing_takes_their_place(entries, broken):
    missing = VideoEntry(str(Path(broken.path).with_name("gone.mp4")), (1,))
    too_long = replace(entries[1], frames=40)  # 20 in truth
    empty = replace(entries[1], start=20)
    dataset = VideoDataset([entries[0], broken, entries[2], missing, too_long, empty], SPEC, 3)
    batch = collate([dataset[0, index] for index in range(6)])
    assert batch.indices.tolist() == [0, 2]
    assert batch.labels.tolist() == [0, 2]
    assert len(batch) == len(batch.frames) == 2
    assert [bad.path for bad in batch.bad] == [broken.path, missing.path, too_long.path, empty.path]
    assert all(bad.cause and bad.path not in bad.cause for bad in batch.bad)


def test_a_file_that_vanishes_between_two_epochs_is_bad(entries, tmp_path):
    path = tmp_path / "short-lived.mp4"
    path.write_bytes(Path(entries[0].path).read_bytes())
    dataset = training([VideoEntry(str(path), (0,))])
    assert dataset[0, 0].bad is None
    path.unlink()
    assert "no such file" in dataset[1, 0].bad.cause.lower()


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_batch_of_bad_files_has_no_rows(broken, multi_label):
    dataset = VideoDataset([broken, broken], SPEC, 3, multi_label, clips=2)
    (batch,) = batches(dataset)
    assert batch.frames.shape == (0, 2, 4, 64, 64, 3)
    assert batch.frames.dtype == torch.uint8
    assert batch.labels.shape == ((0, 3) if multi_label else (0,))
    assert (len(batch), len(batch.bad)) == (0, 2)


def test_the_data_do_not_depend_on_the_number_of_workers(entries, broken):
    dataset = VideoDataset([*entries, broken], SPEC, 3, augment=Augment(colour=0.2))
    alone, one, two = (batches(dataset, epoch=3, workers=count) for count in (0, 1, 2))
    assert len(alone) == len(one) == len(two) == 4
    for a, b, c in zip(alone, one, two, strict=True):
        assert torch.equal(a.frames, b.frames)
        assert torch.equal(a.frames, c.frames)
        assert a.indices.tolist() == b.indices.tolist() == c.indices.tolist()
        assert a.bad == b.bad == c.bad


def test_loading_leaves_the_generators_of_the_process_alone(entries):
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].tolist()  # noqa: NPY002
    batches(training(entries), workers=1)
    assert torch.equal(before, torch.get_rng_state())
    assert numpy_before == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_a_resumed_epoch_is_the_rest_of_the_unbroken_one(entries):
    dataset = training(entries)
    for world, rank in ((1, 0), (2, 1)):
        whole = batches(dataset, batch=1, epoch=5, world=world, rank=rank)
        rest = batches(dataset, batch=1, epoch=5, world=world, rank=rank, start_batch=2)
        assert len(rest) == len(whole) - 2
        for a, b in zip(whole[2:], rest, strict=True):
            assert torch.equal(a.frames, b.frames)
    assert batches(dataset, start_batch=9) == []


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {(seed, epoch): list(EpochSampler(50, epoch, seed)) for seed in range(3) for epoch in range(3)}
    for (seed, epoch), order in orders.items():
        assert sorted(order) == [(epoch, index) for index in range(50)]
        assert order == list(EpochSampler(50, epoch, seed))
    assert len({tuple(index for _, index in order) for order in orders.values()}) == 9
    assert list(EpochSampler(4, 1, shuffle=False)) == [(1, 0), (1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize("world", [2, 3, 5])
def test_shares_are_disjoint_and_equal_or_complete(world):
    for even in (True, False):
        samplers = [EpochSampler(17, 0, rank=rank, world=world, even=even) for rank in range(world)]
        shares = [set(sampler) for sampler in samplers]
        assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
        assert sum(map(len, shares)) == len(set.union(*shares)) == (17 - 17 % world if even else 17)
        assert max(map(len, shares)) - min(map(len, shares)) <= (0 if even else 1)
    with pytest.raises(UsageError, match="process 2 of 2"):
        EpochSampler(17, 0, rank=2, world=2)


def test_drop_last_and_length(entries):
    dataset = VideoDataset(entries, SPEC, 3)
    assert [len(batch) for batch in batches(dataset, batch=4)] == [4, 2]
    assert [len(batch) for batch in batches(dataset, batch=4, drop_last=True)] == [4]
    assert len(make_loader(dataset, 4, 0, 0, shuffle=False, workers=0)) == 2


@pytest.mark.parametrize("count", [0, 1])
def test_clips_of_different_length_stay_apart(entries, count):
    spec = replace(SPEC, frames=100, sampling="all")
    dataset = VideoDataset(entries, spec, 3, augment=Augment())
    assert [batch.frames.shape[2] for batch in batches(dataset, batch=1, shuffle=False)] == list(LENGTHS)
    found = batches(dataset, batch=4, shuffle=False, workers=count)
    assert [[clip.shape[1] for clip in batch.frames] for batch in found] == [[24, 20, 16, 12], [9, 3]]
    assert all(clip.dtype == torch.uint8 for batch in found for clip in batch.frames)
    with pytest.raises(UsageError, match=r"clips of different lengths, \[3, 9\] frames"):
        create_model("tsn_r10_8").prepare(clips_of(found[1].frames))


@pytest.mark.parametrize("crop", ["multiscale", "random", "center"])
def test_a_long_clip_is_cut_to_size_as_it_is_decoded(entries, crop, monkeypatch):
    """In chunks, and not to be told from a clip that was cut at once."""
    spec = replace(SPEC, frames=100, sampling="all", size=32, resize=48)
    augment = Augment(crop, colour=0.3)
    with open_video(entries[0].path) as video:
        whole = torch.from_numpy(video.read(range(24)))
    expected = train_transform(whole, spec, augment, np.random.default_rng((0, 5, 0)))
    held = []

    def watched(frames, *others):
        held.append(len(frames))
        return train_transform(frames, *others)

    monkeypatch.setattr("foveate.data.dataset.train_transform", watched)
    found = VideoDataset(entries, spec, 3, augment=augment)[5, 0].frames
    assert torch.equal(found[0], expected)
    assert held == [CHUNK, 24 - CHUNK]


def test_of_large_pictures_fewer_are_in_memory_at_once(entries, monkeypatch):
    spec = replace(SPEC, frames=8, size=32, resize=48)
    with open_video(entries[0].path) as video:
        whole, one = centre_crops(torch.from_numpy(video.read(range(7))), spec), video.read([0]).nbytes
        for fit, expected in ((3, [3, 3, 1]), (0.5, [1] * 7)):
            monkeypatch.setattr("foveate.video.base.CHUNK_BYTES", int(fit * one))
            held = []

            def cut(frames, held=held):
                held.append(len(frames))
                return centre_crops(frames, spec)

            assert torch.equal(read_cut(video, range(7), cut), whole)
            assert held == expected


def test_whole_videos_are_tested_one_by_one(entries):
    dataset = VideoDataset(entries, replace(SPEC, frames=100, sampling="all"), 3)
    found = batches(dataset, batch=4, shuffle=False)
    assert [batch.frames.shape[:3] for batch in found] == [(1, 1, length) for length in LENGTHS]


class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class Hostile(VideoDataset):
    """A data set whose third video does to its process what a broken decoder can do."""

    harm = "none"
    once: Path | None = None  # a file whose absence means that it did not happen yet

    def __getitem__(self, item):
        if item[1] == 2 and item[1] not in self.given_up and self.still():
            if self.harm == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.harm == "crash":
                os._exit(139)
            if self.harm == "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as in code that never comes back to Python
                time.sleep(60)
            if self.harm == "bug":
                raise RuntimeError("a bug, not a file")
            if self.harm == "unpicklable":
                raise Unpicklable(1, 2)
        return super().__getitem__(item)

    def still(self) -> bool:
        """Whether it is to happen."""
        if self.once is None:
            return True
        before = self.once.exists()
        self.once.touch()
        return not before


def hostile(entries, harm, once=None) -> Hostile:
    dataset = Hostile(entries, SPEC, 3)
    dataset.harm, dataset.once = harm, once
    return dataset


def slowly(loader) -> tuple[list[int], list]:
    """The readable indices in order and the bad files, with time between batches, as a training needs."""
    seen, bad = [], []
    for batch in loader:
        seen += batch.indices.tolist()
        bad += batch.bad
        time.sleep(0.2)  # a death falls into this code, which must not notice it
    return seen, bad


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("harm", "cause"),
    [
        ("kill", "a worker process died: killed by SIGKILL"),
        ("crash", "a worker process died: exit code 139"),
        ("hang", "not read within 2 s"),
    ],
)
def test_a_file_that_takes_its_workers_down_is_a_bad_file(entries, harm, cause, workers, caplog):
    dataset = hostile(entries, harm)
    path, others = entries[2].path, [0, 1, 3, 4, 5]
    seen, (bad,) = slowly(make_loader(dataset, 2, 0, 0, shuffle=False, workers=workers, timeout_s=2))
    assert seen == others
    assert (bad.path, bad.cause, bad.labels, bad.index) == (path, cause, entries[2].labels, 2)
    said = [record.message for record in caplog.records]
    once = [] if harm == "hang" else [f"{path}: {cause}; it is read once more"]
    assert said == [*once, f"{path}: {cause}; it is left out"]
    start = time.monotonic()
    assert slowly(make_loader(dataset, 2, 1, 0, shuffle=False, workers=workers)) == (others, [bad])
    assert time.monotonic() - start < 10, "the next epoch does not try it again"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_from_outside_costs_nothing(entries, workers, tmp_path, caplog):
    dataset = hostile(entries, "kill", tmp_path / "happened")
    found = [*make_loader(dataset, 2, 0, 0, shuffle=False, workers=workers)]
    assert [line.message for line in caplog.records] == [
        f"{entries[2].path}: a worker process died: killed by SIGKILL; it is read once more"
    ]
    for one, other in zip(found, batches(VideoDataset(entries, SPEC, 3), shuffle=False), strict=True):
        assert torch.equal(one.frames, other.frames)
        assert one.indices.tolist() == other.indices.tolist()
        assert not one.bad


def test_an_idle_worker_is_not_blamed_on_a_file(entries, caplog):
    before = set(multiprocessing.active_children())
    loader = iter(make_loader(VideoDataset(entries, SPEC, 3), 1, 0, 0, shuffle=False, workers=1))
    seen = next(loader).indices.tolist()
    time.sleep(1)  # it has read the two batches ahead, and waits
    (worker,) = set(multiprocessing.active_children()) - before
    worker.kill()
    time.sleep(0.2)
    for batch in loader:
        seen += batch.indices.tolist()
        assert not batch.bad
    assert seen == list(range(6))
    assert [line.message for line in caplog.records] == [
        "workers: a worker process died: killed by SIGKILL; they are started again"
    ]


class Unlucky(VideoDataset):
    """A data set whose samples cannot leave their process."""

    def __getitem__(self, item):
        return Poison()


class Poison:
    def __reduce__(self):
        os._exit(7)


def test_workers_that_die_of_no_file_end_the_run(entries):
    dataset = Unlucky(entries, SPEC, 3)
    loader = WatchedLoader(dataset, [], [(0, 0)], lambda samples: samples, workers=1)
    with pytest.raises(FoveateError, match="workers: a worker process died: exit code 7, twice in a row"):
        list(loader)


def test_a_bug_in_a_worker_stays_a_bug(entries):
    dataset = hostile(entries, "bug")
    with pytest.raises(RuntimeError, match="a bug, not a file") as caught:
        batches(dataset, workers=1)
    assert "in __getitem__" in caught.value.__notes__[0]  # where it happened
    dataset.harm = "unpicklable"
    with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2"):
        batches(dataset, workers=1)


def test_the_signal_handlers_of_the_process_stay(entries):
    before = signal.getsignal(signal.SIGCHLD)
    batches(VideoDataset(entries[:2], SPEC, 3), workers=1)
    assert signal.getsignal(signal.SIGCHLD) == before


class Threads(torch.utils.data.Dataset):
    def __getitem__(self, item):
        return torch.get_num_threads()


def test_one_worker_for_each_processor_of_this_process(monkeypatch):
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert pool.usual_workers() == min(here, 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert pool.usual_workers() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # as torchrun says
    assert pool.usual_workers() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert pool.usual_workers() == 1


def test_workers_use_one_thread_each():
    order = EpochSampler(2, 0)
    assert list(WatchedLoader(Threads(), ["a", "b"], order, sum, workers=2)) == [1, 1]


class Large:
    """Entries that a worker hands over through a socket of its own."""

    def __init__(self) -> None:
        self.given_up: dict[int, str] = {}

    def __getitem__(self, item: tuple[int, int]) -> torch.Tensor:
        return torch.full((200_000,), float(item[1]))


def test_a_worker_that_dies_while_it_hands_over_a_batch_costs_nothing() -> None:
    count, seen = 160, list[float]()
    loader = WatchedLoader(
        Large(), ["x"] * count, [(0, number) for number in range(count)], torch.stack, 2, workers=2
    )
    others = multiprocessing.active_children()
    for number, batch in enumerate(loader):
        seen += batch[:, 0].tolist()
        if number % 5 == 4:
            workers = [child for child in multiprocessing.active_children() if child not in others]
            workers[number % len(workers)].kill()
    assert seen == [float(number) for number in range(count)]
