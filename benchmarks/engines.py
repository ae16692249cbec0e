"""What compiled engines bring: seconds a clip, how far the answers move, and what compiling takes."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks import blvnet
from benchmarks.child import in_child
from benchmarks.record import Spread, Table, Value, in_turns, ratio, seconds, write
from foveate.infer.calibrate import LEAST, calibrate
from foveate.infer.choice import a_clip, has_bf16, relative_error, same_decisions
from foveate.infer.compiled import CompiledEngine
from foveate.infer.engine import EagerEngine, Engine, Precision
from foveate.models import base
from foveate.models.base import Frames, ModelOutput, VideoModel, all_read
from foveate.models.blvnet import BLVNetConfig
from foveate.models.zoo import create_model

MODELS = (
    "tsm_r50_8",
    "slowfast_r50_8x8",
    "adafocus_mnv2_r50_128",
    "blvnet_tam_r50_8x2",
    "x3d_m",
    "tsn_r50_8",
    "adafocus_v2_mnv2_r50_128",
    "adafocus_tsm_144",
    "arnet_r50_16",
    "fullvideo_r18_32to8",
)
RELEASED = "released order"  # eager PyTorch in float32, with the operations of the published code
VARIANTS: tuple[tuple[str, Precision], ...] = (
    (RELEASED, "fp32"),
    ("eager", "fp32"),
    ("eager", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("onnxruntime", "fp32"),
)
REPEATS = 5
SIDE = 2048  # of the matrices whose product is the measure of what the processor can do


def run() -> Table:
    """One clip of smooth noise at batch 1, from uint8 frames to the answer; a process for each model."""
    rates = in_child(matrix_rates)
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            rows += in_child(rows_of, name, folder, rates)
            write("engines", _table(rows, rates))  # what was measured survives what fails
    return _table(rows, rates)


def _table(rows: list[dict[str, Value]], rates: dict[str, float]) -> Table:
    about = (
        "One clip of the model's own shape at batch 1, from uint8 frames to the answer; untrained weights, "
        "norms drawn at random. The engines take turns. The error is that of the logits, relative to the "
        f"largest. The {RELEASED} is that of the papers' code in eager PyTorch: all frames through a network "
        "at once, and for bLVNet-TAM each frame twice and a convolution for each tap (benchmarks/blvnet.py). "
        "The share is that of the rate of multiply-adds in a product of square matrices of side "
        f"{SIDE} in the same precision: "
        + ", ".join(f"{kind} {rate:.0f} GMACs a second" for kind, rate in rates.items())
        + f". Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "model": "model",
        "engine": "engine",
        "gmacs": "GMACs",
        "ms": "ms a clip",
        "times": f"times as fast as the {RELEASED}",
        "error": "error",
        "decisions": "decisions",
        "share": "share of the matrix rate, %",
    }
    return Table(about, columns, rows)


def run_costs() -> Table:
    """What compiling takes, and the first clip of the next process; each in a process of its own."""
    rows: list[dict[str, Value]] = []
    for name in MODELS:
        for engine, kind in variants()[1:]:
            if kind == "int8":
                continue  # which takes what its videos take
            with tempfile.TemporaryDirectory() as folder:
                first = in_child(first_clip, name, engine, kind, folder)
                again = in_child(first_clip, name, engine, kind, folder)
                size = sum(path.stat().st_size for path in Path(folder).iterdir())
            row: dict[str, Value] = {"model": name, "engine": f"{engine} {kind}"}
            rows.append(row | {"first": first, "again": again, "size": size / 1e6})
    about = (
        "Seconds from a model in memory to the answer to its first clip, in a new process: with nothing "
        "compiled, and with what the process before left. "
        f"Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "model": "model",
        "engine": "engine",
        "first": "compiling, s",
        "again": "compiled before, s",
        "size": "kept, MB",
    }
    return Table(about, columns, rows)


def made(name: str) -> VideoModel:
    """A model of the table with the same weights in every process, norms off their start."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.75, 1.25)
            torch.nn.init.normal_(module.bias, std=0.1)
    return model


def opened(model: VideoModel, engine: str, kind: Precision, folder: str) -> Engine:
    """An engine that keeps what it compiles in a folder; int8 is calibrated on clips of smooth noise."""
    if engine == RELEASED:
        return ReleasedOrder(model)
    if engine == "eager":
        return EagerEngine(model, "cpu", kind)
    calibrated = Path(folder) / f"calibrated-{model.name}"
    if kind == "int8" and not calibrated.exists():
        calibrate(model, [*a_clip(model, LEAST).numpy()], Path(folder))
        calibrated.touch()
    return CompiledEngine(model, engine, "cpu", kind, Path(folder))


class ReleasedOrder(EagerEngine):
    """Runs a model in the order of its published code."""

    @torch.inference_mode()
    def run(self, frames: Frames) -> ModelOutput:
        clip = self.model.prepare(frames, self.device)
        if isinstance(self.model.config, BLVNetConfig):
            return ModelOutput(blvnet.Released(self.model)(clip), all_read(clip))
        with patch.object(base, "PIXELS_AT_ONCE", sys.maxsize):
            return self.model.output(clip)


def rows_of(name: str, folder: str, rates: dict[str, float]) -> list[dict[str, Value]]:
    """The rows of one model."""
    model = made(name)
    frames = a_clip(model)
    engines = {(engine, kind): opened(model, engine, kind, folder) for engine, kind in variants()}
    outputs = {variant: engine.run(frames) for variant, engine in engines.items()}
    calls: dict[str, Callable[[], float]] = {
        " ".join(variant): partial(seconds, partial(engine.run, frames))
        for variant, engine in engines.items()
    }
    times = in_turns(calls, REPEATS)
    released, reference = times[f"{RELEASED} fp32"], outputs["eager", "fp32"]
    rows: list[dict[str, Value]] = []
    for (engine, kind), output in outputs.items():
        own = times[f"{engine} {kind}"]
        gmacs = _macs_of(reference) / 1e9
        row: dict[str, Value] = {"model": name, "engine": f"{engine} {kind}", "gmacs": gmacs}
        row["ms"] = Spread.of([1000 * took for took in own])
        row["times"] = ratio(released, own)
        row["error"] = relative_error(output.logits, reference.logits)
        row["decisions"] = "same" if same_decisions(output, reference) else "others"
        row["share"] = 100 * gmacs / Spread.of(own).median / rates[kind] if kind in rates else ""
        rows.append(row)
    return rows


def _macs_of(output: ModelOutput) -> float:
    assert output.macs is not None
    return float(output.macs.sum())


def first_clip(name: str, engine: str, kind: Precision, folder: str) -> float:
    """Seconds from a model in memory to its first answer."""
    model = made(name)
    frames = a_clip(model)
    start = time.perf_counter()
    opened(model, engine, kind, folder).run(frames)
    return time.perf_counter() - start


def matrix_rates() -> dict[str, float]:
    """1e9 multiply-adds a second of a matrix product in each precision, the median of some."""
    rates = {}
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(2, SIDE, SIDE).to(dtype)
        a @ b
        took = Spread.of([seconds(partial(torch.mm, a, b)) for _ in range(REPEATS)]).median
        rates[kind] = SIDE**3 / took / 1e9
    return rates


def variants() -> list[tuple[str, Precision]]:
    """Those of `VARIANTS` that this machine can run."""
    return [
        (engine, kind)
        for engine, kind in VARIANTS
        if (engine in (RELEASED, "eager") or find_spec(engine))
        and (kind != "bf16" or has_bf16())
        and (kind != "int8" or find_spec("nncf"))
    ]
