"""Whether early exit and skipped frames save seconds as they save multiply-adds, in every engine."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.child import in_child
from benchmarks.engines import made, opened, variants
from benchmarks.record import Spread, Table, Value, in_turns
from foveate.infer.choice import a_clip
from foveate.infer.engine import Engine, Precision
from foveate.models.adafocus.v1 import AdaFocus
from foveate.models.base import VideoModel

PLUS, V2 = "adafocus_plus_mnv2_r50_128", "adafocus_v2_mnv2_r50_128"
GROUPS = (1, 2, 4)  # frames between two decisions
BATCH = 8
REPEATS = 3

Times = tuple[float, float]  # seconds of processor and wall


def run() -> Table:
    """Each engine in a process of its own, where the model with and without its savings takes turns."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for rows_of in (rows_of_plus, rows_of_v2)
            for engine, kind in variants()[1:]
            if engine != "onnxruntime" and kind != "int8"
            for row in in_child(rows_of, engine, kind, folder)
        ]
    about = (
        f"A batch of {BATCH} videos of 16 frames of 224 pixels, from uint8 frames to the answers; untrained "
        "weights. Everything: the same model, each patch looked at and each frame read. AdaFocus+ skips the "
        "patch of half of the frames; of AdaFocusV2's videos one leaves after frame 1, 3, 5 and so on, half "
        "of the frames, with a decision every 1, 2 or 4 frames. Seconds are those of the processor, which "
        "others on the machine change less than those of the wall; followed is the share of time saved "
        "by the share of multiply-adds saved, of the medians. "
        f"Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "model": "model",
        "engine": "engine",
        "what": "what runs",
        "gmacs": "GMACs",
        "cpu": "processor, s",
        "wall": "wall, s",
        "macs_saved": "multiply-adds saved, %",
        "time_saved": "processor time saved, %",
        "followed": "followed",
    }
    return Table(about, columns, rows)


class EveryOther(AdaFocus):
    """AdaFocus+ whose skip policy runs, but f_L sees every other frame's patch whatever it says.

    Untrained, it says nearly the same of all frames, so that a threshold would halve them in float32 alone.
    """

    def choose_look(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        looked, state = super().choose_look(maps, state)
        assert looked is not None
        return torch.arange(looked.shape[1]).remainder(2).bool().expand_as(looked), state


def rows_of_plus(engine: str, kind: Precision, folder: str) -> list[dict[str, Value]]:
    """AdaFocus+ that looks at all patches, and at half of them."""
    model = with_config(made(PLUS), skip_threshold=0.0)
    half = copy.copy(model)
    half.__class__ = EveryOther
    systems = {"everything": model, "half of the patches": half}
    engines = {name: opened(each, engine, kind, folder) for name, each in systems.items()}
    return _rows(PLUS, engines, a_clip(model, BATCH))


def rows_of_v2(engine: str, kind: Precision, folder: str) -> list[dict[str, Value]]:
    """AdaFocusV2 that reads all frames, and with thresholds that its videos pass one by one."""
    model = made(V2)
    frames = a_clip(model, BATCH)
    whole = opened(model, engine, kind, folder)
    step_logits = whole.run(frames).step_logits
    assert step_logits is not None
    exits = exits_one_by_one(step_logits)
    engines = {"everything": whole}
    for group in GROUPS:
        leaving = with_config(model, exits=exits, exit_group=group)
        engines[f"exits, groups of {group}"] = opened(leaving, engine, kind, folder)
    return _rows(V2, engines, frames)


def exits_one_by_one(step_logits: Tensor) -> tuple[float, ...]:
    """Thresholds that the most confident video left passes after frames 1, 3, 5 and so on."""
    confidence = step_logits.float().softmax(-1).amax(-1)
    reading = torch.ones(len(confidence), dtype=torch.bool)
    found = []
    for step, now in enumerate(confidence.unbind(1)):
        if step % 2 or not reading.any():
            found.append(1.01)  # nobody is that sure
            continue
        best = now[reading].sort(descending=True).values[:2].double()
        found.append(float(best.mean()) if len(best) > 1 else float(best) / 2)
        reading &= now < found[-1]
    return (*found[:-1], 0.0)


def with_config(model: VideoModel, **fields: object) -> VideoModel:
    """The model with its weights under another configuration."""
    other = copy.copy(model)
    other.config = replace(model.config, **fields)
    other.dynamic = True
    return other


def _rows(name: str, engines: dict[str, Engine], frames: Tensor) -> list[dict[str, Value]]:
    macs = {what: float(_macs(engine.run(frames).macs)) for what, engine in engines.items()}
    calls: dict[str, Callable[[], Times]] = {
        what: partial(_timed, engine, frames) for what, engine in engines.items()
    }
    times = in_turns(calls, REPEATS)
    rows: list[dict[str, Value]] = []
    for what, engine in engines.items():
        cpu, wall = (Spread.of(each) for each in zip(*times[what], strict=True))
        whole = Spread.of([own for own, _ in times["everything"]]).median
        row: dict[str, Value] = {
            "model": name,
            "engine": engine.about,
            "what": what,
            "gmacs": macs[what] / 1e9,
        }
        row |= {"cpu": cpu, "wall": wall, "macs_saved": "", "time_saved": "", "followed": ""}
        if what != "everything":
            fewer, less = 1 - macs[what] / macs["everything"], 1 - cpu.median / whole
            row |= {"macs_saved": 100 * fewer, "time_saved": 100 * less, "followed": less / fewer}
        rows.append(row)
    return rows


def _macs(macs: Tensor | None) -> Tensor:
    assert macs is not None  # an engine runs in eval mode
    return macs.sum()


def _timed(engine: Engine, frames: Tensor) -> Times:
    start, own = time.perf_counter(), time.process_time()
    engine.run(frames)
    return time.process_time() - own, time.perf_counter() - start
