"""Milliseconds of a video by the best engine, of every system of `python -m experiments signals`.

What the systems name rightly and what they compute stands in that experiment's own results; here they are
timed, from uint8 frames to the answer, alone and in batches. Those that the experiment has trained on this
machine have these weights; others are as built, or left out if what they compute depends on their weights.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from experiments import focus, signals
from experiments.clips import in_order
from experiments.runner import read_cell
from experiments.signals_data import places, sized
from torch import Tensor

from benchmarks.child import in_child
from benchmarks.engines import opened
from benchmarks.record import Spread, Table, Value, in_turns, seconds
from foveate.infer.allocator import keep_freed_memory
from foveate.infer.choice import CANDIDATES, TOLERANCE, relative_error
from foveate.infer.engine import Precision
from foveate.models.base import VideoModel
from foveate.train.checkpoint import load_checkpoint

BATCHES = (1, 8)
ROUNDS = 15  # of which the median counts
EAGER: tuple[str, Precision] = ("eager", "fp32")
Way = tuple[str, Precision]
WAYS: tuple[Way, ...] = (EAGER, *(way for way in CANDIDATES if way[0] != "onnxruntime"))  # slow to export


def run() -> Table:
    """All systems by all engines take turns in one process; the fastest engine of each is shown."""
    there = [name for name in signals.SYSTEMS if read_cell(signals.EXPERIMENT, name, 0)]
    there = [name for name in there if "random" not in name]  # whose engines look somewhere else each
    there = [name for name in there if checkpoint(name).exists() or not made(name).dynamic]
    with tempfile.TemporaryDirectory() as folder:
        rows = in_child(race, there, folder)
    return Table(ABOUT + f" Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}.", COLUMNS, rows)


ABOUT = (
    "Systems of `python -m experiments signals` on clips of its test split, from uint8 frames in memory to "
    "the answer. Eager PyTorch and OpenVINO, in float32 and bfloat16, take turns in one process as far as "
    f"the logits on these clips are within the bounds of `--engine auto`; of {ROUNDS} rounds the fastest "
    "engine is shown. Freed memory is kept, as by the command. Untrained systems compute as much, but may be "
    "allowed a bfloat16 engine that they would lose with weights, or the other way round."
)
COLUMNS = {
    "system": "system",
    "batch": "batch",
    "weights": "weights",
    "engine": "engine",
    "ms": "ms a video",
    "eager": "ms a video, eager fp32",
}


def race(names: Sequence[str], folder: str) -> list[dict[str, Value]]:
    """A row for each system and batch."""
    keep_freed_memory()
    calls: dict[tuple[str, int, Way], Callable[[], float]] = {}
    for name in names:
        model = made(name)
        frames = {batch: clips(model, batch) for batch in BATCHES}
        references = {batch: opened(model, *EAGER, folder).run(frames[batch]).logits for batch in BATCHES}
        for way in WAYS:
            engine = opened(model, *way, folder)
            for batch in BATCHES:
                error = relative_error(engine.run(frames[batch]).logits, references[batch])
                if error <= TOLERANCE[way[1]]:
                    calls[name, batch, way] = partial(seconds, partial(engine.run, frames[batch]))
    times = {
        key: Spread.of([1000 * one / key[1] for one in took]) for key, took in in_turns(calls, ROUNDS).items()
    }
    rows: list[dict[str, Value]] = []
    for name in names:
        weights = "seed 0" if checkpoint(name).exists() else "untrained"
        for batch in BATCHES:
            ways = {way: spread for (of, size, way), spread in times.items() if (of, size) == (name, batch)}
            best = min(ways, key=lambda way: ways[way].median)
            row: dict[str, Value] = {"system": name, "batch": batch, "weights": weights}
            rows.append(row | {"engine": " ".join(best), "ms": ways[best], "eager": ways[EAGER]})
    return rows


def made(name: str) -> VideoModel:
    """A system with the weights that the experiment has left of its seed 0, or as built."""
    torch.manual_seed(0)
    model = signals.SYSTEMS[name].make().eval()
    if checkpoint(name).exists():
        model.load_state_dict(load_checkpoint(checkpoint(name))["state"]["model"])
    model.name = model.name or name
    return model


def checkpoint(name: str) -> Path:
    return focus.WORK / "seed0" / f"signals_{name}" / "last.ckpt"


def clips(model: VideoModel, batch: int) -> Tensor:
    """The first clips of the test split, uint8 (batch, T, S, S, 3), as the model reads them."""
    first = next(in_order(sized("test", model.spec.size), batch)).frames[:, 0]
    return first[:, torch.from_numpy(places(model.spec.frames))].contiguous()
