"""Figures for the laboratory: clips drawn once into arrays, batches of them, and where the person stands."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveate.data.made import FiguresConfig, render_clip

SIDE, FRAMES = 160, 8
COUNTS = {"train": 1600, "val": 400, "test": 600}
ACTIONS = ("walk", "run", "jump", "wave", "clap", "squat", "kick", "fall")
CONFIG = FiguresConfig(actions=ACTIONS, stature=(0.25, 0.35), noise=5.0, roam=(0.8, 0.9))
WORK = Path(__file__).parents[1] / "work" / "figures_square"


@dataclass(frozen=True)
class Split:
    """Drawn clips. frames: uint8 (N, T, S, S, 3). labels: (N,). boxes: (N, T, 4), left top right bottom."""

    frames: Tensor
    labels: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class ClipBatch:
    """What the training loop reads. frames: uint8 (B, 1, T, S, S, 3)."""

    frames: Tensor
    labels: Tensor
    indices: Tensor
    bad: tuple[object, ...] = ()


def load_split(name: str) -> Split:
    """The clips of a split, drawn at the first call."""
    path = WORK / f"{name}.npz"
    if not path.exists():
        draw_split(name, path)
    with np.load(path) as arrays:
        return Split(*(torch.from_numpy(arrays[key]) for key in ("frames", "labels", "boxes")))


def draw_split(name: str, path: Path) -> None:
    number = list(COUNTS).index(name)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        clips = pool.map(partial(draw, number), range(COUNTS[name]), chunksize=16)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        frames=np.stack([frames for frames, _ in clips]),
        boxes=np.stack([boxes for _, boxes in clips]),
        labels=np.arange(len(clips)) % len(ACTIONS),
    )
    part.replace(path)


def draw(split: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    clip = render_clip(CONFIG, (split, index), (SIDE, SIDE), FRAMES, index % len(ACTIONS))
    return clip.frames, clip.boxes


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
    for start in range(0, len(split.labels), batch):
        indices = torch.arange(start, min(start + batch, len(split.labels)))
        yield ClipBatch(split.frames[indices].unsqueeze(1), split.labels[indices], indices)


def covered(corners: Tensor, patch: int, boxes: Tensor) -> Tensor:
    """Share of the person's box that the patch covers, (N, T). corners: (N, T, 2), row and column."""
    boxes = boxes.to(corners.dtype)
    top, left = corners.unbind(-1)
    height = (torch.minimum(boxes[..., 3], top + patch) - torch.maximum(boxes[..., 1], top)).clamp(min=0)
    width = (torch.minimum(boxes[..., 2], left + patch) - torch.maximum(boxes[..., 0], left)).clamp(min=0)
    area = (boxes[..., 3] - boxes[..., 1]) * (boxes[..., 2] - boxes[..., 0])
    return (height * width).float() / area.clamp(min=1).float()
