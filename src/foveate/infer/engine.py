"""Engines: run a model on uint8 clips, with a `ModelOutput` as result.

A model names its static parts (`VideoModel.parts`); the decisions between them stay Python. A compiling
engine works for every model, dynamic ones too: it replaces each part of a copy of the model by a compiled one
(`with_parts`) and runs the copy as the eager engine does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from foveate.choices import Precision
from foveate.errors import UsageError
from foveate.models.base import Frames, ModelOutput, VideoModel

MAX_WARMUP_FRAMES = 64  # for models that read every frame of a video


class Engine(Protocol):
    """Interface of all engines."""

    model: VideoModel  # for its ClipSpec, labels and `probabilities`

    def run(self, frames: Frames) -> ModelOutput:
        """Run the model on uint8 clips (B, T, S, S, 3), or other input of the model's `prepare`."""
        ...

    def warmup(self, views: int = 1) -> None:
        """Run on a black batch of `views` clips, so that initialisation does not slow the first real one."""
        ...


class EagerEngine:
    """PyTorch in eager mode.

    precision: fp32, or bf16 by autocast, which is faster on processors with bfloat16 arithmetic (see `foveate
    doctor`). The model is moved to `device` and set to eval mode.
    """

    def __init__(
        self, model: VideoModel, device: str | torch.device | None = None, precision: Precision = "fp32"
    ) -> None:
        self.device = torch.device(device) if device else next(model.parameters()).device
        self.model = model.to(self.device).eval()
        self.precision = precision

    @torch.inference_mode()
    def run(self, frames: Frames) -> ModelOutput:
        bf16 = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return self.model.output(self.model.prepare(frames, self.device))

    def warmup(self, views: int = 1) -> None:
        spec = self.model.spec
        frames = min(spec.frames, MAX_WARMUP_FRAMES) if spec.sampling == "all" else spec.frames
        self.run(torch.zeros(views, frames, spec.size, spec.size, 3, dtype=torch.uint8))


def with_parts(model: VideoModel, parts: Mapping[str, Callable[..., Any]]) -> VideoModel:
    """A copy of the model that calls `parts[name]` in place of its part `name`.

    It shares weights, other parts and counts of multiply-adds with the original, which does not change.
    """
    clone = copy.copy(model)
    clone.__dict__["_modules"] = {name: part for name, part in model._modules.items() if name not in parts}
    clone.__dict__ |= {**parts, "part_macs": model.part_macs}
    return clone


ENGINES: dict[str, Callable[[VideoModel, str | torch.device, Precision], Engine]] = {"eager": EagerEngine}


def open_engine(
    model: VideoModel, name: str = "eager", device: str | torch.device = "cpu", precision: Precision = "fp32"
) -> Engine:
    """Create an engine for the model by name; UsageError for an unknown name."""
    if name not in ENGINES:
        raise UsageError(name, "no engine of this name", f"choose {' or '.join(ENGINES)}")
    return ENGINES[name](model, device, precision)
