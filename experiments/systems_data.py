"""The clips of the AdaFocus laboratory as other systems want them: smaller, and with more frames.

Eight frames are those of experiments/focus_data.py, shrunk. More are drawn of the same events, and every
third of them shows the instant of one of the eight; only the grain differs, and the person stands a pixel or
a few (of 160) elsewhere, for it is placed by all of its movement that is drawn.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from experiments import focus_data
from experiments.clips import Arrays, Split, drawn
from experiments.focus_data import ACTIONS, CONFIG, COUNTS
from foveate.clip import ClipSpec
from foveate.data.synthetic import render_clip
from foveate.video.transform import resize

SIDE, FRAMES = 112, 24
WORK = Path(__file__).parents[1] / "work" / "figures_dense"


def load_split(name: str, spec: ClipSpec) -> Split:
    """The clips of a split with as many frames, of such a size, as a model wants.

    160 pixels of 8 frames are as drawn; otherwise there are `SIDE` pixels, and 8 frames or any number that
    divides `FRAMES`.
    """
    if spec.size == focus_data.SIDE:
        return focus_data.load_split(name)
    if spec.frames == focus_data.FRAMES:
        return _split(shrunk(focus_data.load_split(name).frames))
    step = FRAMES // spec.frames
    return _split(load_dense(name)[:, step // 2 :: step])


def load_dense(name: str) -> Tensor:
    """All frames of a split, uint8 (N, FRAMES, SIDE, SIDE, 3), drawn at the first call."""
    return drawn(WORK / name, partial(draw, list(COUNTS).index(name)), COUNTS[name])["frames"]


def draw(split: int, index: int) -> Arrays:
    side = (focus_data.SIDE, focus_data.SIDE)
    clip = render_clip(CONFIG, (split, index), side, FRAMES, index % len(ACTIONS))
    return {"frames": shrunk(torch.from_numpy(clip.frames)).numpy()}


def shrunk(frames: Tensor) -> Tensor:
    """uint8 (..., S, S, 3) to (..., SIDE, SIDE, 3), each pixel an average."""
    small = resize(frames.flatten(0, -4), SIDE, SIDE)
    return small.unflatten(0, frames.shape[:-3])


def _split(frames: Tensor) -> Split:
    return Split(frames, torch.arange(len(frames)) % len(ACTIONS))
