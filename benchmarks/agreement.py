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
        logits = {name: _logits(engine, clips) for name, engine in engines.items()}
    reference = logits["eager fp32"]
    rows: list[dict[str, Value]] = []
    for name, own in logits.items():
        same = own.argmax(1) == reference.argmax(1)
        row: dict[str, Value] = {
            "engine": name,
            "top1": 100 * float((own.argmax(1) == labels).float().mean()),
        }
        row["agreement"] = 100 * float(same.float().mean())
        row["error"] = relative_error(own, reference)
        rows.append(row)
    about = (
        f"{MODEL} with the weights of the package on {VIDEOS} made H.264 videos of its eight actions that it "
        f"never saw, one clip each; int8 calibrated on {CALIBRATION} others. The error is the largest "
        "difference of logits, relative to the largest logit."
    )
    columns = {
        "engine": "engine",
        "top1": "top-1, %",
        "agreement": "same label as eager fp32, %",
        "error": "error",
    }
    return Table(about, columns, rows)


def _logits(engine: Engine, clips: torch.Tensor) -> torch.Tensor:
    return torch.cat([engine.run(some).logits.float() for some in clips.split(8)])


def _int8(model: VideoModel, videos: Path, folder: str) -> dict[str, Engine]:
    if not find_spec("nncf"):
        return {}
    calibrate(model, read_list(videos).entries, Path(folder))
    return {"openvino int8": CompiledEngine(model, "openvino", "cpu", "int8", Path(folder))}
