"""Made clips for experiments: drawn once and kept as arrays, and batches of them."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
class Batches:
    """Shuffled training batches of a split, mirrored and shifted by up to 4 pixels at random.

    The order and every clip of epoch e are functions of (seed, e). Actions do not tell left from right.
    """

    split: Split
    batch: int
    seed: int

    def __len__(self) -> int:
        return len(self.split.labels) // self.batch

    def __call__(self, epoch: int, start: int) -> Iterator[ClipBatch]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.split.labels))
        flips = rng.random(len(order)) < 0.5
        shifts = rng.integers(-4, 5, (len(order), 2))
        for number in range(start, len(self)):
            chosen = order[number * self.batch : (number + 1) * self.batch]
            clips = [self._clip(index, flips[index], shifts[index]) for index in chosen]
            indices = torch.from_numpy(chosen)
            yield ClipBatch(torch.stack(clips).unsqueeze(1), self.split.labels[indices], indices)

    def _clip(self, index: int, flip: bool, shift: np.ndarray) -> Tensor:
        clip = self.split.frames[index]
        return torch.roll(clip.flip(2) if flip else clip, tuple(shift.tolist()), (1, 2))


def in_order(split: Split, batch: int = 32) -> Iterator[ClipBatch]:
    """All clips, as they are."""
    for indices in torch.arange(len(split.labels)).split(batch):
        yield ClipBatch(split.frames[indices].unsqueeze(1), split.labels[indices], indices)
