"""What a model spends: the time of one clip beside a fixed one's, and the memory of a training step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from benchmarks.record import seconds
from torch import Tensor

from experiments.clips import ClipBatch
from foveate.measure.cost import peak_memory_mb
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.distributed import ALONE
from foveate.train.objective import Classification
from foveate.train.state import make_state
from foveate.train.step import train_step
from foveate.video.transform import to_clip

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


def training_memory(dearest: Callable[[], Lesson], batch: int) -> float:
    """MiB that three steps add to the most memory that this process has held; call it before all else."""
    tiny = create_model("tsn_r10_8", 8, size=32, resize=32)
    take_steps(tiny, Classification(tiny.spec), batch)  # what the libraries themselves take at first use
    before = peak_memory_mb()
    take_steps(*dearest(), batch)
    return (peak_memory_mb() - before) * 1e6 / 2**20


def take_steps(model: VideoModel, objective: Any, batch: int, steps: int = 3) -> None:
    spec, labels = model.spec, torch.arange(batch) % 8
    frames = torch.randint(256, (batch, 1, spec.frames, spec.size, spec.size, 3), dtype=torch.uint8)
    config = TrainConfig(batch=batch, optimizer="adamw", precision="bf16")
    state = make_state(model.train(), config)
    for _ in range(steps):
        train_step(state, [ClipBatch(frames, labels, labels)], objective, config, ALONE, rate=1e-4)
