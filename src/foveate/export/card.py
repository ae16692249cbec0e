"""The card of an exported model: how to make its input and read its output, without this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from foveate import __version__
from foveate.clip import FLOW_PAIRS, FLOW_STILL, ClipSpec, Modality
from foveate.models.base import VideoModel
from foveate.models.pieces import Piece, Pieces

FRAMES = {
    "segments": "frame int(n / T / 2 + n / T * i) of n frames, i = 0 .. T - 1",
    "rounded_segments": "with ends round((n - 1) / T * i) of n frames: end[i] + int((end[i+1] - end[i]) / 2)",
    "dense": "frame (max(0, n - T * stride) // 2 + stride * i) % n of n frames, i = 0 .. T - 1",
    "even": (
        "span = max(1, T * stride * video rate / fps, or T * stride if fps is null); T points evenly from "
        "max(0, n - span) // 2 to span - 1 later, both included, limited to 0 .. n - 1, rounded down"
    ),
    "all": "every frame",
}
LAYOUT: dict[Modality, str] = {
    "rgb": "RGB",
    "flow": f"x and y of {FLOW_PAIRS} successive optical flows, {FLOW_STILL} for none",
}
SHORT = {
    "spread": "the same rule, which repeats frames",
    "repeat_first": "the first frame T times",
    "repeat_last": "all frames, then the last until there are T",
    "wrap": "all frames, then again from the first",
}


def card_of(model: VideoModel, pieces: Pieces, files: Mapping[str, str], to: str) -> dict[str, Any]:
    """The card as plain data. files: the file of each graph."""
    return {
        "format": "foveate export 1",
        "runtime": to,
        "model": model.name,
        "trained_on": model.trained_on,
        "labels": [*model.labels],
        "scores": "sigmoid of each logit" if model.independent else "softmax over the logits",
        "input": _input(model.spec),
        "output": {"name": "logits", "shape": ["B", model.num_classes], "dtype": "float32"},
        "parts": {name: _part(piece, files[name]) for name, piece in pieces.graphs.items()},
        "driver": pieces.driver,
        "decisions": pieces.decisions,
        "versions": {"foveate": __version__, "torch": torch.__version__},
    }


def _input(spec: ClipSpec) -> dict[str, Any]:
    clamped = "; of a frame longer than 8 times its short side only the middle"
    rounding = "(extent - size + 1) // 2" if spec.crop_up else "round half to even of (extent - size) / 2"
    filtered = (
        "with a low-pass filter when shrinking, as Pillow does" if spec.antialias else "without a filter"
    )
    return {
        "name": "frames",
        "layout": f"batch, frames, rows, columns, {LAYOUT[spec.modality]}",
        "shape": ["B", "T" if spec.sampling == "all" else spec.frames, spec.size, spec.size, spec.channels],
        "dtype": "uint8",
        "clip": asdict(spec),
        "how": {
            "frames": FRAMES[spec.sampling],
            "videos with fewer frames": SHORT[spec.short] if spec.sampling == "segments" else "the same rule",
            "resize": f"short side to {spec.resize} pixels, long side rounded down, bilinear, pixel centres "
            f"at halves, {filtered}, rounded to whole levels 0 to 255{clamped}",
            "crop": f"the middle {spec.size} x {spec.size}, first row and column at {rounding}",
            "normalise": "not needed: done inside, (level / 255 - mean) / std for each channel",
        },
    }


@torch.no_grad()
def _part(piece: Piece, file: str) -> dict[str, Any]:
    found = tree_leaves(piece.run(*piece.inputs.values()))
    outputs = zip(piece.outputs, found, strict=True)
    return {
        "file": file,
        "inputs": {name: _tensor(tensor) for name, tensor in piece.inputs.items()},
        "outputs": {name: _tensor(tensor) for name, tensor in outputs},
    }


def _tensor(tensor: torch.Tensor) -> dict[str, Any]:
    return {"shape": ["N", *tensor.shape[1:]], "dtype": str(tensor.dtype).removeprefix("torch.")}
