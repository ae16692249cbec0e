"""Made clips for experiments: drawn once and kept as arrays, and batches of them."""

from __future__ import annotations

import multiprocessing
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Split:
    """Drawn clips. frames: uint8 (N, T, S, S, 3). labels: (N,)."""

    frames: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ClipBatch:
    """What the training loop reads. frames: uint8 (B, 1, T, S, S, 3)."""

    frames: Tensor
    labels: Tensor
    indices: Tensor
    bad: tuple[object, ...] = ()


def drawn(folder: Path, draw: Callable[[int], Arrays], count: int) -> dict[str, Tensor]:
    """What `draw` makes of each index below `count`, stacked by name; views of files in `folder`.

    Two processes draw at the first call. The folder appears whole or not at all.
    """
    if not folder.exists():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        kept: Arrays = {}
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            for index, item in enumerate(pool.imap(draw, range(count), chunksize=16)):
                for name, array in item.items():
                    if not index:
                        path, shape = part / f"{name}.npy", (count, *array.shape)
                        kept[name] = np.lib.format.open_memmap(path, "w+", array.dtype, shape)
                    kept[name][index] = array
        for array in kept.values():
            array.flush()
        part.replace(folder)
    return {path.stem: torch.from_numpy(np.load(path, mmap_mode="c")) for path in folder.glob("*.npy")}


@dataclass(frozen=True)
class Shuffled(ABC):
    """Training batches of a split in random order, each clip changed at random.

    The order and every clip of epoch e are functions of (seed, e).
    """

    split: Split
    batch: int
    seed: int

    @abstractmethod
    def draws(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """The random numbers of an epoch: arrays with a row for each clip of the split."""

    @abstractmethod
    def clip(self, index: int, *drawn: Any) -> Tensor:
        """A clip (T, S, S, 3) of the split, changed by its rows of `draws`."""

    def __len__(self) -> int:
        return len(self.split.labels) // self.batch

    def __call__(self, epoch: int, start: int) -> Iterator[ClipBatch]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.split.labels))
        draws = self.draws(rng)
        for number in range(start, len(self)):
            chosen = order[number * self.batch : (number + 1) * self.batch]
            clips = [self.clip(index, *(drawn[index] for drawn in draws)) for index in chosen]
            indices = torch.from_numpy(chosen)
            yield ClipBatch(torch.stack(clips).unsqueeze(1), self.split.labels[indices], indices)


@dataclass(frozen=True)
class Batches(Shuffled):
    """Whole clips, mirrored and shifted by up to 4 pixels: actions do not tell left from right."""

    def draws(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        count = len(self.split.labels)
        return rng.random(count) < 0.5, rng.integers(-4, 5, (count, 2))

    def clip(self, index: int, *drawn: Any) -> Tensor:
        return moved(self.split.frames[index], *drawn)


def moved(clip: Tensor, flip: bool, shift: np.ndarray) -> Tensor:
    """A clip (T, S, S, 3), mirrored if asked to, and shifted by pixels (down, right) with what falls out
    coming in on the other side."""
    return torch.roll(clip.flip(2) if flip else clip, tuple(shift.tolist()), (1, 2))


def in_order(split: Split, batch: int = 32) -> Iterator[ClipBatch]:
    """All clips, as they are."""
    for indices in torch.arange(len(split.labels)).split(batch):
        yield ClipBatch(split.frames[indices].unsqueeze(1), split.labels[indices], indices)
