"""What a model spends: the time of one clip beside a fixed one's, the memory of answering and training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from benchmarks.record import seconds
from torch import Tensor

from experiments.clips import ClipBatch
from foveate.layers.normalise import to_clip
from foveate.measure.cost import peak_memory_mb
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.distributed import ALONE
from foveate.train.objective import Classification
from foveate.train.state import make_state
from foveate.train.step import train_step

TIMED, REPEATS = 40, 3  # clips, and how often each is timed
Lesson = tuple[VideoModel, Any]
"""An untrained model and the objective of its dearest stage of training; what does not learn is frozen."""


@torch.inference_mode()
def race(model: Any, frames: Tensor, other: Any, still: Tensor) -> dict[str, float]:
    """Milliseconds of one clip alone, and the quotient to `other` on `still`, in turns with it.

    Both have a `spec`. frames: uint8 (N, T, S, S, 3). still: as `other` reads it, (1, T, S, S, 3). The best
    of some repeats for each clip, for what disturbs a measurement only lengthens it; the mean over the clips,
    for a dynamic model takes longer over some of them.
    """
    other.eval()
    fixed = to_clip(still, other.spec)
    ours = theirs = 0.0
    for one in frames[:TIMED].split(1):
        clip = to_clip(one, model.spec)
        times = [(seconds(partial(model, clip)), seconds(partial(other, fixed))) for _ in range(REPEATS)]
        ours += min(time for time, _ in times)
        theirs += min(time for _, time in times)
    return {"ms": 1000 * ours / TIMED, "times": ours / theirs}


def training_memory(dearest: Callable[[], Lesson], config: TrainConfig) -> float:
    """MiB that three steps add to the most memory that this process has held; call it before all else."""
    tiny = create_model("tsn_r10_8", 2, size=32, resize=32)
    take_steps(tiny, Classification(), config)  # what the libraries themselves take at first use
    before = peak_memory_mb()
    take_steps(*dearest(), config)
    return (peak_memory_mb() - before) * 1e6 / 2**20


def answering_memory(untrained: Callable[[], VideoModel], clips: int) -> float:
    """MiB that a batch of clips to be answered adds, likewise."""
    answer(create_model("tsn_r10_8", 2, size=32, resize=32), clips)
    before = peak_memory_mb()
    answer(untrained(), clips)
    return (peak_memory_mb() - before) * 1e6 / 2**20


@torch.inference_mode()
def answer(model: VideoModel, clips: int) -> Tensor:
    return model.eval()(torch.randn(clips, 3, model.spec.frames, model.spec.size, model.spec.size))


def take_steps(model: VideoModel, objective: Any, config: TrainConfig, steps: int = 3) -> None:
    step = training_step(model, objective, config)
    for _ in range(steps):
        step()


def step_race(ours: Lesson, theirs: Lesson, config: TrainConfig) -> dict[str, float]:
    """Seconds of a training step, and the quotient to that of another, in turns; the best of some repeats."""
    steps = [training_step(model, objective, config) for model, objective in (ours, theirs)]
    times = [[seconds(step) for step in steps] for _ in range(1 + REPEATS)][1:]
    ours_s, theirs_s = (min(column) for column in zip(*times, strict=True))
    return {"step_s": ours_s, "step_times": ours_s / theirs_s}


def training_step(model: VideoModel, objective: Any, config: TrainConfig) -> Callable[[], object]:
    """A step on a batch of noise, to be called again and again."""
    spec, labels = model.spec, torch.arange(config.batch) % model.num_classes
    frames = torch.randint(256, (config.batch, 1, spec.frames, spec.size, spec.size, 3), dtype=torch.uint8)
    state, batches = make_state(model.train(), config), [ClipBatch(frames, labels, labels)]
    return lambda: train_step(state, batches, objective, config, ALONE, rate=1e-4)
