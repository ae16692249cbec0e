"""What exported files answer, weigh and take, beside eager PyTorch."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from benchmarks.child import in_child
from benchmarks.engines import made
from benchmarks.record import Spread, Table, Value, in_turns, ratio, write
from foveate.choices import ExportTarget
from foveate.export.check import files_of
from foveate.export.drivers.run import Exported
from foveate.export.write import export_model
from foveate.infer.choice import a_clip, relative_error
from foveate.infer.engine import EagerEngine
from foveate.models.pieces import normalised

MODELS = (
    "tsn_r50_8",
    "tsm_r50_8",
    "slowfast_r50_8x8",
    "x3d_m",
    "blvnet_tam_r50_8x2",
    "adafocus_mnv2_r50_128",
    "adafocus_v2_mnv2_r50_128",
    "adafocus_tsm_144",
    "arnet_r50_16",
    "fullvideo_r18_32to8",
)
REPEATS = 5
CLIPS = 3  # whose answers are compared; one of them is timed


def run() -> Table:
    """Clips of smooth noise, from uint8 frames to logits; a process for each model."""
    rows: list[dict[str, Value]] = []
    for name in MODELS:
        rows += in_child(rows_of, name)
        write("export", _table(rows))  # what was measured survives what fails
    return _table(rows)


def _table(rows: list[dict[str, Value]]) -> Table:
    about = (
        "Models as files, run by the drivers of src/foveate/export/drivers/ in float32, and eager PyTorch: "
        "from uint8 frames to logits; untrained weights, norms drawn at random. The error is the largest "
        f"difference of the logits of {CLIPS} clips of smooth noise, relative to the largest. Others use the "
        "machine, so what is given is processor time of one clip, all forms of a model and eager in turns, "
        f"threads: {torch.get_num_threads()}; ratios are taken within a round. So is the time of writing. "
        f"Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "model": "model",
        "form": "form",
        "graphs": "graphs",
        "size": "size, MB",
        "error": "error",
        "ms": "ms a clip",
        "times": "times as fast as eager",
        "writing": "writing, s",
    }
    return Table(about, columns, rows)


def rows_of(name: str) -> list[dict[str, Value]]:
    """The rows of one model: each form."""
    model, threads = made(name), torch.get_num_threads()
    engine, clips = EagerEngine(model), a_clip(model, CLIPS)
    if "sizes" in model.reports:
        choose_all(model, clips)
    wanted = torch.cat([engine.run(clip.unsqueeze(0)).logits for clip in clips])
    one = clips[:1].numpy()
    calls: dict[str, Callable[[], Any]] = {"eager": partial(engine.run, clips[:1])}
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as folder:
        for form in get_args(ExportTarget):
            place = Path(folder, form)
            writing = processor_seconds(partial(export_model, model, form, place))
            card = place / f"{name}.json"
            exported = Exported(card, threads)
            size = sum(path.stat().st_size for path in files_of(card)) / 1e6
            logits = torch.from_numpy(exported(clips.numpy()))
            row: dict[str, Value] = {"model": name, "form": form, "graphs": len(exported.parts)}
            rows.append(row | {"size": size, "error": relative_error(logits, wanted), "writing": writing})
            calls[form] = partial(exported, one)
        times = in_turns({form: partial(processor_seconds, call) for form, call in calls.items()}, REPEATS)
    for row in rows:
        own = times[str(row["form"])]
        row["ms"] = Spread.of([1000 * took for took in own])
        row["times"] = ratio(times["eager"], own)
    return rows


@torch.no_grad()
def choose_all(model: Any, clips: Tensor) -> None:
    """Let an untrained AR-Net, which skips all frames, choose each action in turn.

    That of the nearest of some states of its LSTM.
    """
    images = normalised(clips[0], model.spec)
    states, state = [], None
    for features in model.glance_features(model.at_size(images, len(model.nets))):
        state = model.policy.rnn(features.unsqueeze(0), state)
        states.append(state[0][0])
    actions = model.policy.actions
    count = len(actions.bias)
    chosen = torch.stack([states[len(states) * number // count] for number in range(count)])
    actions.weight.copy_(2 * chosen)
    actions.bias.copy_(-chosen.square().sum(1))


def processor_seconds(call: Callable[[], object]) -> float:
    """Of one call, in all threads of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start
