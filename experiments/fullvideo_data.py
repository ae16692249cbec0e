"""Videos for clustering: Move4MNIST, and bursts, in which a digit moves for 8 of 128 frames and then is gone.

In a burst video nothing else ever changes but noise. A class and its opposite visit the same places in
reverse order, so neither a frame nor the mean of the burst gives the answer: several maps must come from
within the 8 frames, whose place in time is drawn by lot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments.clips import ClipBatch
from foveate.data.synthetic import Move4MnistConfig, render_move4mnist
from foveate.data.synthetic.move4mnist import digits_of, mnist_digits
from foveate.data.synthetic.texture import smooth_texture

STEPS = ((0, -1), (0, 1), (-1, 0), (1, 0))  # rows and columns: left, right, up, down
DIGIT = 14  # side of a digit, pixels
GREY = 60  # of a plain background


@dataclass(frozen=True)
class Burst:
    """What a burst video shows, beside the digit that moves."""

    textured: bool = True  # a texture that all videos share and a still digit, or plain grey
    noise: float = 0.0  # standard deviation of each pixel in each frame, of 255
    flashes: int = 0  # single frames that are brighter by 60
    frames: int = 128
    side: int = 32  # pixels
    visible: int = 8  # frames of the burst
    step: int = 2  # pixels from one of them to the next

    def clip(self, seed: int, split: str, index: int) -> np.ndarray:
        return _burst(self, seed, split, index)


@dataclass(frozen=True)
class Move:
    """Move4MNIST as a small network can learn it: a pixel at each appearance, no hint where it began."""

    movers: float = 0.4  # share of frames
    step: float = 1.0  # pixels

    @property
    def config(self) -> Move4MnistConfig:
        return Move4MnistConfig(movers=self.movers, step=self.step, still="anywhere")

    def clip(self, seed: int, split: str, index: int) -> np.ndarray:
        return render_move4mnist(self.config, seed, split, index).frames[..., 0]


Scene = Burst | Move


@dataclass(frozen=True)
class Videos:
    """Drawn videos. frames: uint8 (N, T, S, S), grey. labels: (N,), the direction."""

    frames: Tensor
    labels: Tensor


def draw(scene: Scene, seed: int, split: str, count: int) -> Videos:
    """The first videos of a split, "train" or "val", whose digits the other split never shows."""
    first = scene.clip(seed, split, 0)
    frames = np.empty((count, *first.shape), np.uint8)
    for index in range(count):
        frames[index] = scene.clip(seed, split, index)
    return Videos(torch.from_numpy(frames), torch.arange(count) % len(STEPS))


def _burst(scene: Burst, seed: int, split: str, index: int) -> np.ndarray:
    """Frames (T, S, S) of one video; its class is `index` modulo 4."""
    rng = np.random.default_rng((seed, ("train", "val").index(split), index))
    images, allowed = mnist_digits()[0], digits_of(split)
    picture = _background(scene, seed)
    if scene.textured:
        _paste(picture, _shrunk(images[rng.choice(allowed)]), rng.integers(0, scene.side - DIGIT + 1, 2))
    frames = np.repeat(picture[None], scene.frames, axis=0)
    digit = _shrunk(images[rng.choice(allowed)])
    path = scene.step * np.outer(np.arange(scene.visible), np.abs(STEPS[index % len(STEPS)]))
    path = path[:: sum(STEPS[index % len(STEPS)])]  # the same places for a class and its opposite
    corner = rng.integers(0, scene.side - DIGIT - path.max(0) + 1)
    begin = rng.integers(0, scene.frames - scene.visible + 1)
    for frame, place in zip(frames[begin:], corner + path, strict=False):
        _paste(frame, digit, place)
    frames[rng.choice(scene.frames, scene.flashes, replace=False)] += 60
    if scene.noise:
        frames += scene.noise * rng.standard_normal(frames.shape, dtype=np.float32)
    return frames.round().clip(0, 255).astype(np.uint8)


def _background(scene: Burst, seed: int) -> np.ndarray:
    if not scene.textured:
        return np.full((scene.side, scene.side), GREY, np.float32)
    texture = smooth_texture(np.random.default_rng(seed), scene.side, scene.side, (0, 100), cells=6)
    return texture[0]


def _shrunk(digit: np.ndarray) -> np.ndarray:
    """28 pixels to 14."""
    return digit.astype(np.float32).reshape(DIGIT, 2, DIGIT, 2).mean((1, 3))


def _paste(picture: np.ndarray, digit: np.ndarray, place: np.ndarray) -> None:
    top, left = place
    window = picture[top : top + DIGIT, left : left + DIGIT]
    np.maximum(window, digit, out=window)


@dataclass(frozen=True)
class Batches:
    """Shuffled training batches; the order in epoch e is a function of (seed, e)."""

    videos: Videos
    batch: int
    seed: int

    def __len__(self) -> int:
        return len(self.videos.labels) // self.batch

    def __call__(self, epoch: int, start: int) -> Iterator[ClipBatch]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.videos.labels))
        for number in range(start, len(self)):
            yield clips(self.videos, torch.from_numpy(order[number * self.batch : (number + 1) * self.batch]))


def in_order(videos: Videos, batch: int = 20) -> Iterator[ClipBatch]:
    """All videos, as they are."""
    for indices in torch.arange(len(videos.labels)).split(batch):
        yield clips(videos, indices)


def clips(videos: Videos, indices: Tensor) -> ClipBatch:
    """Grey frames as three equal colours, (B, 1, T, S, S, 3)."""
    grey = videos.frames[indices].unsqueeze(1).unsqueeze(-1)
    return ClipBatch(grey.expand(*grey.shape[:-1], 3), videos.labels[indices], indices)
