"""PyTorch's compiler on a GPU: each static part of a model is compiled when it is first called.

Here the compiler works within the process (torch.compile), with a backend that writes kernels for GPUs;
compiled.py has the engines that keep files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from foveate.choices import Precision
from foveate.errors import UsageError
from foveate.infer.compiled import first_line
from foveate.infer.engine import EagerEngine, with_parts
from foveate.models.base import VideoModel


class TorchCompileEngine(EagerEngine):
    """Runs a model whose parts go through torch.compile.

    The first dimension of what a part reads (clips, frames, patches) may be of any size; one of size 1 is
    compiled by itself. backend: of torch.compile. UsageError at the first call of a part that it cannot
    compile.
    """

    def __init__(
        self,
        model: VideoModel,
        device: str | torch.device = "cuda",
        precision: Precision = "fp32",
        backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        super().__init__(model, device, precision)
        self.kind = self.about = f"compile {precision}"
        parts = (*model.parts, *model.step_parts)
        self.model = with_parts(model, {part: _compiled(model, part, backend) for part in parts})


def _compiled(model: VideoModel, part: str, backend: str | Callable[..., Any]) -> Callable[..., Any]:
    run = torch.compile(getattr(model, part), backend=backend)

    def call(*inputs: Any) -> Any:
        for leaf in tree_leaves(inputs):
            if isinstance(leaf, Tensor) and leaf.dim():
                torch._dynamo.maybe_mark_dynamic(leaf, 0)
        try:
            return run(*inputs)
        except torch._dynamo.exc.TorchDynamoException as error:  # imported by the first compilation
            why = first_line(getattr(error, "inner_exception", error))
            cause = f"torch.compile cannot compile its {part}: {why}"
            raise UsageError(model.name or "model", cause, "use --engine eager") from error

    return call
