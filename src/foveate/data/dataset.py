"""Labelled videos as batches of clips, with stateless sampling.

Sample i of epoch e is a function of (seed, e, i) and nothing else, and the order of epoch e of (seed, e).
So any number of worker processes sees the same data, and a run resumes from an epoch and a batch number. A
file that cannot be read is never replaced by another one: it leaves its batch, and the batch names it with
its cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from foveate.clip import ClipSpec
from foveate.data.lists import VideoEntry
from foveate.data.stretch import frame_range
from foveate.data.workers import FILE_TIMEOUT_S, Item, WatchedLoader
from foveate.errors import DataError, FoveateError, UsageError
from foveate.video import Video, open_video
from foveate.video.base import stacked
from foveate.video.sample import clip_indices, views
from foveate.video.transform import Augment, test_transform, train_transform


@dataclass(frozen=True)
class BadFile:
    """A video that gave no clip, and why."""

    path: str
    cause: str
    labels: tuple[int, ...] = ()  # class numbers, where the list says them
    index: int = -1  # of its entry, of which a list may have several for one path; -1: of no list


@dataclass(frozen=True)
class Sample:
    """One video. A bad one has frames of the usual shape, which hold nothing."""

    frames: torch.Tensor  # uint8 (V, T, S, S, C), V views: clips x crops
    label: torch.Tensor  # int64 scalar, -1 without a label | float multi-hot (num_classes,)
    index: int  # of the entry
    bad: BadFile | None = None


@dataclass(frozen=True)
class Batch:
    """The readable videos of a batch, possibly none, and the others by name."""

    # uint8 (B, V, T, S, S, C), or (V, T, S, S, C) of each video where their lengths differ
    frames: torch.Tensor | list[torch.Tensor]
    labels: torch.Tensor  # int64 (B,) | float (B, num_classes)
    indices: torch.Tensor  # int64 (B,), of the entries
    bad: tuple[BadFile, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)


class VideoDataset(Dataset[Sample]):
    """Entries of a list as clips for `spec`: a random one in training, `clips` x `crops` views in a test.

    An item is (epoch, index), or (epoch, index, k) for another clip where an epoch has a video k + 1 times.
    Raises DataError at once for a label that the classes do not have.
    """

    def __init__(
        self,
        entries: Sequence[VideoEntry],
        spec: ClipSpec,
        num_classes: int,
        multi_label: bool = False,
        augment: Augment | None = None,
        clips: int = 1,
        crops: int = 1,
        seed: int = 0,
    ) -> None:
        if augment is not None and clips * crops != 1:
            raise UsageError("clips", f"{clips} clips x {crops} crops in training", "training takes one view")
        if augment is None:
            _check_views(spec, clips, crops)
        elif augment.colour and spec.modality == "flow":
            raise UsageError("--colour", "optical flow has no colours", "leave it at 0")
        for entry in entries:
            _check_labels(entry, num_classes, multi_label)
        self.entries = entries
        self.spec = spec
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.augment = augment
        self.clips = clips
        self.crops = crops
        self.seed = seed
        self.given_up: dict[int, str] = {}  # see Source

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, item: Item) -> Sample:
        index = item[1]
        if index in self.given_up:
            return self._bad(index, self.given_up[index])
        try:
            return Sample(self._frames(self.entries[index], item), self.label(index), index)
        except (DataError, OSError) as error:
            return self._bad(index, cause_of(error))

    def _bad(self, index: int, cause: str) -> Sample:
        bad = BadFile(self.entries[index].path, cause, self.entries[index].labels, index)
        return Sample(self._nothing(), self.label(index), index, bad)

    def _frames(self, entry: VideoEntry, item: Item) -> torch.Tensor:
        """(V, T, S, S, C), each chunk cut to size as it is decoded."""
        rng = np.random.default_rng((self.seed, *item))
        with open_video(entry.path, entry.template, modality=self.spec.modality) as video:
            first, total = frame_range(entry, video)
            clips = self._clips(total, video.info.fps, rng)
            places = [first + frame for frame in chain.from_iterable(clips)]
            shown = read_cut(video, places, partial(self._cut, rng))  # (crops, clips*T, S, S, C)
        return shown.unflatten(1, (len(clips), -1)).transpose(0, 1).flatten(0, 1)

    def _clips(self, total: int, fps: float, rng: np.random.Generator) -> list[list[int]]:
        if self.augment is None:
            return views(total, self.spec, self.clips, fps)
        return [clip_indices(total, self.spec, rng, self.augment.jitter, fps)]

    def _cut(self, rng: np.random.Generator, frames: torch.Tensor) -> torch.Tensor:
        """(crops, k, S, S, C) of some frames of a video: of all of them by the same draw."""
        if self.augment is None:
            return test_transform(frames, self.spec, self.crops)
        return train_transform(frames, self.spec, self.augment, deepcopy(rng)).unsqueeze(0)

    def label(self, index: int) -> torch.Tensor:
        """The label of an entry: int64 scalar, -1 without one, or float multi-hot (num_classes,)."""
        entry = self.entries[index]
        if not self.multi_label:
            return torch.tensor(entry.labels[0] if entry.labels else -1)
        label = torch.zeros(self.num_classes)
        label[list(entry.labels)] = 1
        return label

    def _nothing(self) -> torch.Tensor:
        """A shape without memory behind it."""
        size = self.spec.size
        zero = torch.zeros((), dtype=torch.uint8)
        return zero.expand(self.clips * self.crops, self.spec.frames, size, size, self.spec.channels)


def read_cut(
    video: Video, places: Sequence[int], cut: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Frames at any places, (crops, N, S, S, C), cut as `cut_each` does."""
    wanted, order = np.unique(places, return_inverse=True)
    frames = cut_each(video.iterate(wanted.tolist()), cut)
    return frames if np.array_equal(wanted, places) else frames[:, torch.from_numpy(order)]


def cut_each(
    frames: Iterator[NDArray[np.uint8]], cut: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The crops (crops, N, S, S, C) of N frames (H, W, C), of which a chunk is in memory at a time.

    cut: of frames (k, H, W, C), their crops (crops, k, S, S, C).
    """
    return torch.cat([cut(torch.from_numpy(chunk)) for chunk in stacked(frames)], 1)


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch of the readable samples; the unreadable ones are listed, and none stands in for them.

    Clips of one length are stacked, others stay apart.
    """
    good = [sample for sample in samples if sample.bad is None]
    first = samples[0]
    frames: torch.Tensor | list[torch.Tensor]
    if good:
        frames = [sample.frames for sample in good]
        if len({each.shape for each in frames}) == 1:
            frames = torch.stack(frames)
        labels = torch.stack([sample.label for sample in good])
    else:
        frames = first.frames.new_empty((0, *first.frames.shape))
        labels = first.label.new_empty((0, *first.label.shape))
    indices = torch.tensor([sample.index for sample in good], dtype=torch.int64)
    return Batch(frames, labels, indices, tuple(sample.bad for sample in samples if sample.bad is not None))


class EpochSampler(Sampler[Item]):
    """The items of one epoch for one of `world` processes, from number `start` of its share on.

    Shares are disjoint strides through one order, a function of (seed, epoch). `even` makes them equally
    long, which distributed training needs: up to world - 1 entries, other ones in every shuffled epoch, sit
    out. classes: of each entry; the epoch then has as many items of every class (one more of some), so that
    small classes come again, as other clips, and large ones in part, other videos in every epoch.
    """

    def __init__(
        self,
        length: int,
        epoch: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        even: bool = True,
        classes: Sequence[int] | None = None,
    ) -> None:
        if not 0 <= rank < world:
            raise UsageError("rank", f"process {rank} of {world}", "ranks count from 0")
        order = np.arange(length)
        if shuffle:
            numbers = np.random.SeedSequence((seed, epoch), spawn_key=(0,))  # the key: unlike any sample's
            rng = np.random.default_rng(numbers)
            order = rng.permutation(order) if classes is None else _balanced(np.asarray(classes), rng)
        if even:
            order = order[: length - length % world]
        times = Counter[int]()
        items: list[Item] = []
        for index in order.tolist():
            items.append((epoch, index, times[index]) if times[index] else (epoch, index))
            times[index] += 1
        self.order = items[rank::world][start:]

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.order)


def _balanced(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many indices as there are entries, equal parts of each class, all its videos before one again."""
    length, there = len(classes), rng.permutation(np.unique(classes))
    order = np.empty(length, np.int64)
    places = np.array_split(rng.permutation(length), len(there))
    for label, own in zip(there, places, strict=True):
        members = np.flatnonzero(classes == label)
        rounds = [rng.permutation(members) for _ in range(-(-len(own) // len(members)))]
        order[own] = np.concatenate(rounds)[: len(own)] if rounds else []
    return order


def make_loader(
    dataset: VideoDataset,
    batch: int,
    epoch: int,
    seed: int,
    shuffle: bool,
    workers: int,
    start_batch: int = 0,
    rank: int = 0,
    world: int = 1,
    drop_last: bool = False,
    timeout_s: float = FILE_TIMEOUT_S,
    balanced: bool = False,
) -> WatchedLoader[Batch]:
    """The batches of one epoch, from `start_batch` on, exactly as an unbroken run has them.

    Shares of the processes are equal when shuffling or dropping the last batch; otherwise, as in a test,
    every entry is in exactly one share. balanced: every class in equal parts when shuffling. Tests of all
    frames, whose numbers differ, come one by one. A file on which worker processes die twice, or that is not
    read within `timeout_s` seconds, is a bad file.
    """
    if dataset.spec.sampling == "all" and dataset.augment is None:
        batch = 1
    even = shuffle or drop_last
    classes = [entry.labels[0] for entry in dataset.entries] if balanced else None
    start = start_batch * batch
    sampler = EpochSampler(len(dataset), epoch, seed, shuffle, rank, world, start, even, classes)
    paths = [entry.path for entry in dataset.entries]
    return WatchedLoader(dataset, paths, sampler, collate, batch, drop_last, workers, timeout_s)


def _check_views(spec: ClipSpec, clips: int, crops: int) -> None:
    """Try them on a picture of nothing: an error here is clearer than one out of a worker process."""
    blank = torch.zeros(1, 1, 1, spec.channels, dtype=torch.uint8)
    blank = blank.expand(1, spec.resize, spec.resize, -1)
    views(spec.frames, spec, clips)
    test_transform(blank, spec, crops)


def _check_labels(entry: VideoEntry, num_classes: int, multi_label: bool) -> None:
    outside = [label for label in entry.labels if not 0 <= label < num_classes]
    if outside:
        raise DataError(entry.path, f"label {outside[0]} is outside of {num_classes} classes")
    if len(entry.labels) > 1 and not multi_label:
        raise DataError(entry.path, f"has {len(entry.labels)} labels", "set multi_label, or keep one label")


def cause_of(error: Exception) -> str:
    """The cause in words, without the name of the file, which stands beside it."""
    if isinstance(error, FoveateError):
        return error.cause
    return getattr(error, "strerror", None) or str(error)
