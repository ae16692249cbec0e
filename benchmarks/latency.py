"""What the models of the zoo cost for one clip: multiply-adds, parameters and milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.record import Spread, Table, Value, in_turns, seconds
from foveate.measure.cost import count_macs, count_parameters
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model

MODELS = (
    "tsn_r50_8",
    "tsm_r18_8",
    "tsm_r50_8",
    "tsm_r50_16",
    "tsm_r50_8_nl",
    "tsm_r101_8",
    "tsm_mnv2_8",
    "tsm_lite0_8",
    "tsm_lite2_8",
    "tsm_r10_8",
    "adafocus_mnv2_r50_128",
    "adafocus_v2_mnv2_r50_128",
    "adafocus_tsm_144",
)
REPEATS = 5


def run() -> Table:
    """One clip of the model's own shape, batch 1, float32, eager."""
    models = {name: create_model(name).eval() for name in MODELS}
    times = in_turns({name: _timed(model) for name, model in models.items()}, REPEATS)
    rows = []
    for name, model in models.items():
        spec = model.spec
        row: dict[str, Value] = {"model": name, "input": f"{spec.frames}x{spec.size}x{spec.size}"}
        row["gmacs"] = count_macs(model, _clip(model)).total / 1e9
        row["parameters"] = count_parameters(model) / 1e6
        row["latency"] = Spread.of([1000 * time for time in times[name]])
        rows.append(row)
    about = "One clip at batch 1 in float32, PyTorch without compilation. MACs are multiply-adds."
    columns = {
        "model": "model",
        "input": "input",
        "gmacs": "GMACs a clip",
        "parameters": "parameters, M",
        "latency": "ms a clip",
    }
    return Table(about, columns, rows)


def _timed(model: VideoModel) -> Callable[[], float]:
    clip = _clip(model)

    def call() -> float:
        with torch.inference_mode():
            return seconds(lambda: model(clip))

    return call


def _clip(model: VideoModel) -> torch.Tensor:
    """A clip of noise in the memory order of a decoded one."""
    spec = model.spec
    shape = (1, spec.frames, spec.size, spec.size, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).permute(0, 4, 1, 2, 3)
