"""Whether every engine and precision gives the labels of eager float32, on made videos."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.engines import opened, variants
from benchmarks.record import WORK, Table, Value
from foveate.cli.demo import FIGURES
from foveate.data.lists import read_list
from foveate.data.synthetic import make_figures
from foveate.infer.calibrate import calibrate
from foveate.infer.choice import relative_error
from foveate.infer.compiled import CompiledEngine
from foveate.infer.engine import Engine
from foveate.infer.read import ClipReader
from foveate.models.base import VideoModel
from foveate.weights.load import load_model

MODEL, WEIGHTS = "adafocus_small", "figures"
VIDEOS, CALIBRATION = 400, 128
IN_INT8 = ("", "local_features", "glance_at", "glance_at local_features policy accumulate")  # parts


def run() -> Table:
    """Top-1 of each engine, how often it agrees with eager float32, and how far its logits are."""
    model = load_model(MODEL, WEIGHTS).eval()
    config = replace(FIGURES, actions=model.labels)
    lists = make_figures(WORK / "figures8", CALIBRATION, 0, VIDEOS, config=config)
    reader = ClipReader(model.spec, needed=model.frames_needed, window=0)
    entries = read_list(lists["test"]).entries
    clips = torch.cat([reader.read(entry).frames[0] for entry in entries])
    labels = torch.tensor([entry.labels[0] for entry in entries])
    with tempfile.TemporaryDirectory() as folder:
        engines: dict[str, Engine] = {
            f"{name} {kind}": opened(model, name, kind, folder) for name, kind in variants()[1:]
        }
        engines |= _int8(model, lists["train"], folder)
        found = {name: _answers(engine, clips) for name, engine in engines.items()}
    reference, places = found["eager fp32"]
    rows: list[dict[str, Value]] = []
    for name, (own, own_places) in found.items():
        alike = (own_places - places).abs().flatten(1).amax(1) <= 0.1  # pixels
        row: dict[str, Value] = {"engine": name, "top1": _percent(own.argmax(1) == labels)}
        row["agreement"] = _percent(own.argmax(1) == reference.argmax(1))
        row["places"] = _percent(alike)
        row["error"] = relative_error(own[alike], reference[alike])
        rows.append(row)
    about = (
        f"{MODEL} with the weights of the package on {VIDEOS} made H.264 videos of its eight actions that it "
        f"never saw, one clip each; int8 calibrated on {CALIBRATION} others, for the parts that are faster "
        "so on this machine, and for those named. The error is the largest difference of logits where all "
        "patches are the same, relative to the largest logit; where two places are nearly as good, rounding "
        "decides, and the logits are those of another patch."
    )
    columns = {
        "engine": "engine",
        "top1": "top-1, %",
        "agreement": "same label as eager fp32, %",
        "places": "same patches, %",
        "error": "error",
    }
    return Table(about, columns, rows)


def _answers(engine: Engine, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, classes) and boxes (N, T, 4)."""
    outputs = [engine.run(some) for some in clips.split(8)]
    boxes = [output.boxes for output in outputs if output.boxes is not None]
    return torch.cat([output.logits.float() for output in outputs]), torch.cat(boxes)


def _percent(which: torch.Tensor) -> float:
    return 100 * float(which.float().mean())


def _int8(model: VideoModel, videos: Path, folder: str) -> dict[str, Engine]:
    if not find_spec("nncf"):
        return {}
    engines: dict[str, Engine] = {}
    for parts in IN_INT8:
        name = f"openvino int8{f', {parts}' if parts else ''}"
        place = Path(folder) / name
        calibrate(model, read_list(videos).entries, place, parts.split() if parts else None)
        engines[name] = CompiledEngine(model, "openvino", "cpu", "int8", place)
    return engines
