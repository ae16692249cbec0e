"""An engine runs a model: bytes of clips in, a `ModelOutput` out.

A model names its static parts (`VideoModel.parts`), and what decides between them stays Python. So an engine
that compiles need not know the models: it puts a compiled twin in the place of each part of a copy of the
model (`with_parts`) and runs that copy as the eager engine does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import torch

from foveate.errors import UsageError
from foveate.models.base import Frames, ModelOutput, VideoModel

Precision = Literal["fp32", "bf16"]
MOST_WARMUP_FRAMES = 64  # of a clip that may be as long as the video


class Engine(Protocol):
    """What reading and naming know of an engine."""

    model: VideoModel  # says what clips to read and what the logits mean

    def run(self, frames: Frames) -> ModelOutput:
        """Answer B clips of uint8 (B, T, S, S, C), or what else the model's `prepare` takes."""
        ...

    def warmup(self, views: int = 1) -> None:
        """Run a black batch of so many views, so that the first real one does not wait for allocations."""
        ...


class EagerEngine:
    """PyTorch as it stands, one operation after the other.

    precision: fp32, or bf16 by autocast, which is faster where the processor multiplies bfloat16 in hardware
    (`foveate doctor` says so). The model is moved to `device` and left in eval mode.
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
        frames = min(spec.frames, MOST_WARMUP_FRAMES) if spec.sampling == "all" else spec.frames
        self.run(torch.zeros(views, frames, spec.size, spec.size, 3, dtype=torch.uint8))


def with_parts(model: VideoModel, twins: Mapping[str, Callable[..., Any]]) -> VideoModel:
    """A copy of the model that calls `twins[name]` in place of its part `name`.

    Weights, the other parts and the counts of multiply-adds are those of the original, which stays as it is.
    """
    twin = copy.copy(model)
    twin.__dict__["_modules"] = {name: own for name, own in model._modules.items() if name not in twins}
    twin.__dict__ |= {**twins, "part_macs": model.part_macs}
    return twin


ENGINES: dict[str, Callable[[VideoModel, str | torch.device, Precision], Engine]] = {"eager": EagerEngine}


def open_engine(
    model: VideoModel, name: str = "eager", device: str | torch.device = "cpu", precision: Precision = "fp32"
) -> Engine:
    """The engine of that name with the model in it; UsageError for a name that is none."""
    if name not in ENGINES:
        raise UsageError(name, "no engine of this name", f"choose {' or '.join(ENGINES)}")
    return ENGINES[name](model, device, precision)
