"""Figures: a small light person does one of ten things somewhere in a cluttered, moving scene.

The person covers a few per cent of the frame, and its movement alone tells the class: a case for looking at
one small patch (Wang et al., "Adaptive Focus for Efficient Video Recognition", ICCV 2021). The person's box
in every frame is stored beside the video, so that where a network looks can be judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from foveate.data.synthetic.config import FiguresConfig
from foveate.data.synthetic.encode import encode_h264
from foveate.data.synthetic.folder import FolderSettings, Made, Progress, make_folder
from foveate.data.synthetic.person import Outfit, make_person
from foveate.data.synthetic.scene import make_scene

_DEFAULT = FiguresConfig()


@dataclass(frozen=True)
class FigureClip:
    """A drawn video."""

    frames: np.ndarray = field(repr=False)  # uint8 RGB (T, H, W, 3)
    # Of the person, int (T, 4): left, top, right, bottom in pixels; the last two are exclusive.
    boxes: np.ndarray = field(repr=False)
    label: int


def render_clip(
    config: FiguresConfig,
    seed: int | Sequence[int],
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    label: int | None = None,
    outfit: Outfit | None = None,
) -> FigureClip:
    """Draw a video without encoding it; a function of its arguments alone.

    `size` is (width, height) in pixels and `frames` the number of instants, spread over the same time; both
    are the configuration's by default. Another size of the same shape shows the same event. `label` indexes
    `config.actions`; None draws it. `outfit` colours the clothes, which otherwise are any light ones; it
    changes nothing else.
    """
    width, height = size or (config.width, config.height)
    times = (np.arange(frames or config.frames) + 0.5) / (frames or config.frames)
    lots, person_rng, scene_rng, grain_rng = np.random.default_rng(seed).spawn(4)
    drawn = int(lots.integers(len(config.actions)))
    label = drawn if label is None else label
    side = min(width, height)
    scene = make_scene(config, width, height, times, scene_rng)
    person = make_person(
        config, config.actions[label], np.array([width, height]) / side, times, person_rng, outfit
    )
    grain = _Grain(config.noise, width, height, grain_rng)
    video = np.empty((len(times), height, width, 3), np.uint8)
    picture = np.empty((3, height, width), np.float32)
    for t in range(len(times)):
        scene.draw(picture, t, side)
        person.draw(picture, t, side)
        np.stack(list(grain.over(picture)), axis=-1, out=video[t])  # faster than a transposed copy
    return FigureClip(video, _pixel_boxes(person.boxes() * side, width, height), label)


def make_figures(
    folder: Path,
    train: int = 1600,
    val: int = 400,
    test: int = 0,
    seed: int = 0,
    config: FiguresConfig = _DEFAULT,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the data set as H.264 files with a JSON file beside each; returns the list file of each split.

    A rerun keeps what is finished. `progress(done, total)` is called after each video. Raises UsageError if
    the folder was made with another seed or configuration, OutputError if it cannot be written.
    """
    settings = FolderSettings("figures", seed, config.actions, config.frames, config)
    counts = {"train": train, "val": val, "test": test}
    return make_folder(Path(folder), settings, partial(_make, config, seed), counts, workers, progress)


def _make(config: FiguresConfig, seed: int, split: int, index: int) -> Made:
    label = index % len(config.actions)
    clip = render_clip(config, (seed, split, index), label=label)
    facts = {
        "action": config.actions[label],
        "seed": [seed, split, index],
        "fps": config.fps,
        "size": [config.width, config.height],
        "boxes": clip.boxes.tolist(),
    }
    return Made(encode_h264(clip.frames, config.fps, config.crf), facts)


class _Grain:
    """Grey noise; each frame's is cut out of one larger field at random, as fresh noise would cost most."""

    def __init__(self, deviation: float, width: int, height: int, rng: np.random.Generator) -> None:
        self.spare = 64
        shape = (height + self.spare, width + self.spare)
        self.field = rng.standard_normal(shape, np.float32) * np.float32(deviation)
        self.shape = height, width
        self.rng = rng

    def over(self, picture: np.ndarray) -> np.ndarray:
        """The picture (3, H, W) with new grain, as uint8."""
        top, left = self.rng.integers(0, self.spare + 1, 2)
        grain = self.field[top : top + self.shape[0], left : left + self.shape[1]]
        return np.clip(picture + (grain + np.float32(0.5)), 0, 255).astype(np.uint8)


def _pixel_boxes(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Whole pixels that hold the boxes (T, 4), cut to the frame."""
    outer = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    return np.clip(outer, 0, [width, height, width, height]).astype(int)
