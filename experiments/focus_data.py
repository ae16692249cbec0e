"""Figures for the AdaFocus laboratory: small persons in a cluttered frame, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from experiments.clips import Arrays, Split, drawn
from foveate.data.synthetic import FiguresConfig, render_clip

SIDE, FRAMES = 160, 8
COUNTS = {"train": 1600, "val": 400, "test": 600}
ACTIONS = ("walk", "run", "jump", "wave", "clap", "squat", "kick", "fall")
CONFIG = FiguresConfig(actions=ACTIONS, stature=(0.25, 0.35), noise=5.0, roam=(0.8, 0.9))
WORK = Path(__file__).parents[1] / "work" / "figures_square"


@dataclass(frozen=True)
class FoundSplit(Split):
    """Clips and where the person stands. boxes: (N, T, 4), left top right bottom."""

    boxes: Tensor


def load_split(name: str) -> FoundSplit:
    """The clips of a split, drawn at the first call."""
    arrays = drawn(WORK / name, partial(draw, list(COUNTS).index(name)), COUNTS[name])
    return FoundSplit(arrays["frames"], torch.arange(COUNTS[name]) % len(ACTIONS), arrays["boxes"])


def draw(split: int, index: int) -> Arrays:
    clip = render_clip(CONFIG, (split, index), (SIDE, SIDE), FRAMES, index % len(ACTIONS))
    return {"frames": clip.frames, "boxes": clip.boxes}


def covered(patches: Tensor, boxes: Tensor) -> Tensor:
    """Share of the person's box that the patch covers, (N, T); both (N, T, 4), left, top, right, bottom."""
    boxes = boxes.to(patches.dtype)
    corner = torch.maximum(boxes[..., :2], patches[..., :2])
    width, height = (torch.minimum(boxes[..., 2:], patches[..., 2:]) - corner).clamp(min=0).unbind(-1)
    area = (boxes[..., 3] - boxes[..., 1]) * (boxes[..., 2] - boxes[..., 0])
    return (height * width).float() / area.clamp(min=1).float()
