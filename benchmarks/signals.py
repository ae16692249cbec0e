"""Milliseconds of a video by the best engine, of every system of `python -m experiments signals`.

What the systems name rightly and what they compute stands in that experiment's own results; here they are
timed, from uint8 frames to the answer, alone and in batches. Those that the experiment has trained on this
machine have these weights; others are as built, or left out if what they compute depends on their weights.
"""

from __future__ import annotations

import os
import tempfile
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
from benchmarks.record import Spread, Table, Value, in_turns, seconds, write
from foveate.infer.allocator import keep_freed_memory
from foveate.infer.choice import CANDIDATES, TOLERANCE, relative_error
from foveate.infer.engine import Engine, Precision
from foveate.models.base import VideoModel
from foveate.train.checkpoint import load_checkpoint

BATCHES = (1, 8)
TRIALS, ROUNDS = 5, 9  # of which the median counts: to find the engine, and to time it
EAGER: tuple[str, Precision] = ("eager", "fp32")
Way = tuple[str, Precision]
WAYS: tuple[Way, ...] = (EAGER, *(way for way in CANDIDATES if way[0] != "onnxruntime"))  # slow to export


def run() -> Table:
    """Each system finds its fastest engine in a process of its own; then all take turns in one."""
    there = [name for name in signals.SYSTEMS if read_cell(signals.EXPERIMENT, name, 0)]
    there = [name for name in there if "random" not in name]  # whose engines look somewhere else each
    there = [name for name in there if checkpoint(name).exists() or not made(name).dynamic]
    with tempfile.TemporaryDirectory() as folder:
        best = {name: in_child(fastest, name, folder) for name in there}
        rows = in_child(race, best, folder)
    table = Table(ABOUT + f" Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}.", COLUMNS, rows)
    write("signals", table)
    return table


ABOUT = (
    "Systems of `python -m experiments signals` on clips of its test split, from uint8 frames in memory to "
    "the answer. Of eager PyTorch and OpenVINO, in float32 and bfloat16, the fastest whose "
    "logits on these clips are within the bounds of `--engine auto` is taken for each system and batch; then "
    "all take turns in one process, a round after the other. Freed memory is kept, as by the command. "
    "Untrained systems compute as much, but may be allowed a bfloat16 engine that they would lose with "
    "weights, or the other way round."
)
COLUMNS = {
    "system": "system",
    "batch": "batch",
    "weights": "weights",
    "engine": "engine",
    "ms": "ms a video",
    "eager": "ms a video, eager fp32",
}


def fastest(name: str, folder: str) -> dict[int, tuple[Way, float]]:
    """For each batch the fastest engine, and seconds a batch in eager float32."""
    keep_freed_memory()
    model = made(name)
    engines = {way: opened(model, *way, folder) for way in WAYS}
    found = {}
    for batch in BATCHES:
        frames = clips(model, batch)
        reference = engines[EAGER].run(frames).logits
        errors = {
            way: relative_error(engine.run(frames).logits, reference) for way, engine in engines.items()
        }
        calls = {
            way: partial(seconds, partial(engines[way].run, frames))
            for way, error in errors.items()
            if error <= TOLERANCE[way[1]]
        }
        times = {way: Spread.of(took).median for way, took in in_turns(calls, TRIALS).items()}
        found[batch] = min(times, key=times.__getitem__), times[EAGER]
    return found


def race(best: dict[str, dict[int, tuple[Way, float]]], folder: str) -> list[dict[str, Value]]:
    """The rows of all systems, by their own engines, in turns."""
    keep_freed_memory()
    engines: dict[tuple[str, Way], Engine] = {}
    calls, rows = {}, []
    for name, ways in best.items():
        model = made(name)
        weights = "seed 0" if checkpoint(name).exists() else "untrained"
        for batch, (way, eager) in ways.items():
            if (name, way) not in engines:
                engines[name, way] = opened(model, *way, folder)
            calls[name, batch] = partial(seconds, partial(engines[name, way].run, clips(model, batch)))
            row: dict[str, Value] = {
                "system": name,
                "batch": batch,
                "engine": " ".join(way),
                "weights": weights,
            }
            rows.append(row | {"eager": 1000 * eager / batch})
    for (_, batch), row, took in zip(calls, rows, in_turns(calls, ROUNDS).values(), strict=True):
        row["ms"] = Spread.of([1000 * one / batch for one in took])
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
