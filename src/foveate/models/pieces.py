"""A model as graphs of tensors and plain data, for use without this package (export/).

What decides between the graphs of a model is a driver in export/drivers/, plain numpy: so what is not
computed here for a clip is not computed there either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from foveate.clip import ClipSpec
from foveate.errors import UsageError


@dataclass(frozen=True)
class Piece:
    """A graph of tensors that one exported file holds.

    run: the same operations for every input of these shapes. inputs: an example of each, by name; only the
    size of the first dimension may be another. outputs: names, in the order in which `run` returns them.
    modules: all that have weights of it; those of others would be stored with it.
    """

    run: Callable[..., Any]
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    modules: tuple[nn.Module, ...]


@dataclass(frozen=True)
class Pieces:
    """A model in pieces. All frames are uint8 (n, S, S, C), RGB or flow, and normalised inside.

    graphs: by name. driver: of the module that calls them; empty for a model that is one graph, from "frames"
    (B, T, S, S, C) to "logits". decisions: what the driver reads, as plain data.
    """

    graphs: Mapping[str, Piece]
    driver: str = ""
    decisions: Mapping[str, Any] = field(default_factory=dict)


def some_frames(spec: ClipSpec, frames: int | None = None) -> Tensor:
    """An example of a clip, uint8 (1, T, S, S, C), or of so many `frames`, (n, S, S, C)."""
    shape = (spec.size, spec.size, spec.channels)
    return torch.zeros((1, spec.frames, *shape) if frames is None else (frames, *shape), dtype=torch.uint8)


def normalised(frames: Tensor, spec: ClipSpec) -> Tensor:
    """Frames (B, T, S, S, C) or (n, S, S, C), levels 0 to 255, as floats (B, C, T, S, S) or (n, C, S, S).

    As `layers/normalise.py`, in operations that every form of file has.
    """
    mean, std = (255 * torch.tensor(values) for values in (spec.mean, spec.std))
    return ((frames.float() - mean) / std).movedim(-1, 1)


def not_portable(name: str, why: str) -> UsageError:
    """The error of a model that cannot be taken apart."""
    return UsageError(name or "model", f"cannot be exported: {why}", "use it through this package")
