"""Engines: run a model on uint8 clips, with a `ModelOutput` as result.

A model names its static parts (`VideoModel.parts`); the decisions between them stay Python. A compiling
engine (compiled.py) works for every model, dynamic ones too: it replaces each part of a copy of the model by
a compiled one (`with_parts`) and runs the copy as the eager engine does. choice.py measures which is fastest.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from foveate.choices import Precision
from foveate.errors import DataError, FoveateError, UsageError
from foveate.infer.artefacts import KnownMacs
from foveate.infer.copies import Copies
from foveate.layers.order import set_order
from foveate.models.base import Frames, ModelOutput, VideoModel

COMPILING = ("openvino", "onnxruntime", "compile")
ENGINES = ("eager", *COMPILING, "auto")
MAX_WARMUP_FRAMES = 64  # for models that read every frame of a video
AUTOCAST: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Engine(Protocol):
    """Interface of all engines."""

    model: VideoModel  # for its ClipSpec, labels and `probabilities`
    kind: str  # its name and precision, as "openvino bf16"
    about: str  # the same, and why it was chosen if nobody named it

    def run(self, frames: Frames) -> ModelOutput:
        """Run the model on uint8 clips (B, T, S, S, 3), or other input of the model's `prepare`."""
        ...

    def step(self, frames: Tensor, state: Any = None) -> tuple[ModelOutput, Any]:
        """Run a model that streams on the next frame of each stream, uint8 (B, S, S, 3): output and state.

        state: what the call before returned; None at the start.
        """
        ...

    def send(self, frames: Frames) -> Frames:
        """Begin to copy clips to where the model runs, from any thread; `run` takes what it returns."""
        ...

    def warmup(self, views: int = 1) -> None:
        """Run on a black batch of `views` clips, so that initialisation does not slow the first real one."""
        ...


class EagerEngine:
    """PyTorch in eager mode.

    precision: fp32, or by autocast bf16, which is faster on processors with bfloat16 arithmetic (see `foveate
    doctor`), or on a GPU fp16. The model is moved to `device` and set to eval mode. UsageError for fp16 on a
    CPU, and for int8.
    """

    def __init__(
        self, model: VideoModel, device: str | torch.device | None = None, precision: Precision = "fp32"
    ) -> None:
        self.device = torch.device(device) if device else next(model.parameters()).device
        self.model = model.to(self.device).eval()
        self.kind = self.about = f"eager {precision}"
        self._dtype = autocast_type(precision, self.device)
        self._copies = Copies(self.device)
        self._macs = KnownMacs(model)

    @torch.inference_mode()
    def run(self, frames: Frames) -> ModelOutput:
        frames = self._copies.receive(frames)
        with self._autocast():
            output = self.model.output(self.model.prepare(frames, self.device))
        self._macs.keep()
        return output

    @torch.inference_mode()
    def step(self, frames: Tensor, state: Any = None) -> tuple[ModelOutput, Any]:
        with self._autocast():
            output, state = self.model.step(
                self.model.prepare(frames.unsqueeze(1), self.device)[:, :, 0], state
            )
        self._macs.keep()
        return output, state

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None)

    def send(self, frames: Frames) -> Frames:
        return self._copies.send(frames)

    def warmup(self, views: int = 1) -> None:
        self.run(torch.zeros(clip_shape(self.model, views), dtype=torch.uint8))


def finite(output: ModelOutput, video: str) -> ModelOutput:
    """An output; DataError, which names the video, for one that holds infinities or no numbers."""
    if not bool(output.logits.isfinite().all()):
        hint = "use --precision fp32, or other weights"
        raise DataError(video, "the model's answer to it is not finite", hint)
    return output


@contextmanager
def memory_for(clips: int, hint: str) -> Iterator[None]:
    """Say what to change where the memory does not suffice: FoveateError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        typed = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not typed and "allocate memory" not in str(error):  # the CPU allocator has no error of its own
            raise
        raise FoveateError("batch", f"too little memory for {clips} clips at once", hint) from error


def autocast_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What autocast computes in; None without autocast. UsageError for fp16 on a CPU, and for int8."""
    if precision == "int8":
        raise UsageError("--precision int8", "eager does not have it", "use --engine openvino")
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16", "is for GPUs", "use bf16 or fp32, or --device cuda")
    return AUTOCAST.get(precision)


def clip_shape(model: VideoModel, views: int) -> tuple[int, ...]:
    """Shape (views, T, S, S, C) of a batch to try a model with."""
    spec = model.spec
    frames = min(spec.frames, MAX_WARMUP_FRAMES) if spec.sampling == "all" else spec.frames
    return views, frames, spec.size, spec.size, spec.channels


def with_parts(model: VideoModel, parts: Mapping[str, Callable[..., Any]]) -> VideoModel:
    """A copy of the model that calls `parts[name]` in place of its part `name`.

    It shares weights, other parts, counts of multiply-adds and the setting of the dial with the original.
    """
    clone = copy.copy(model)
    clone.__dict__["_modules"] = {name: part for name, part in model._modules.items() if name not in parts}
    shared = {"part_macs": model.part_macs, "_known_macs": model.known_macs, "_turned": model.turned}
    clone.__dict__ |= {**parts, **shared}
    return clone


def open_engine(
    model: VideoModel,
    name: str = "eager",
    device: str | torch.device = "cpu",
    precision: Precision | None = None,
    measure: bool = True,
) -> Engine:
    """Create an engine for the model by name.

    precision: None is fp32, and for "auto" whichever is fastest. measure: whether "auto" may take some
    seconds to measure a model that it has not met on this machine. On a GPU the model's kernels are stored
    with their channels last, as clips are. UsageError for an unknown name, or an engine that is not installed
    or lacks the precision.
    """
    kinds = get_args(Precision)
    if precision not in (None, *kinds):
        raise UsageError(f"--precision {precision}", "no engine has it", f"choose {' or '.join(kinds)}")
    if name == "auto" and precision == "int8":
        name = "openvino"  # the only one that has it
    if name in ("auto", "eager") or precision == "fp16":
        autocast_type(precision or "fp32", torch.device(device))  # refused before anything is measured
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        set_order(model, channels_last=True)  # cuDNN would do it at every call
    if name == "auto":
        from foveate.infer.choice import open_fastest

        return open_fastest(model, device, precision, measure)
    if name == "compile" and on_gpu:
        from foveate.infer.cuda import TorchCompileEngine

        return TorchCompileEngine(model, device, precision or "fp32")
    if name in COMPILING:
        from foveate.infer.compiled import CompiledEngine

        return CompiledEngine(model, name, device, precision or "fp32")
    if name != "eager":
        raise UsageError(name, "no engine of this name", f"choose {' or '.join(ENGINES)}")
    return EagerEngine(model, device, precision or "fp32")
