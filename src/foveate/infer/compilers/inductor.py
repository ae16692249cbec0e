"""PyTorch's own compiler, ahead of time: a shared library that the next process loads at once.

It needs a C++ compiler and minutes for a large network.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.infer.compilers import Run
from foveate.infer.compilers.trace import exported
from foveate.infer.engine import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class InductorCompiler:
    """Exports a graph and compiles it with its weights folded into its operations."""

    name = "compile"
    package = "torch"
    suffix = ".pt2"
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    own_threads = False

    def compile(
        self, graph: nn.Module, calls: Sequence[Sequence[Tensor]], precision: Precision, path: Path
    ) -> None:
        from torch._inductor import aoti_compile_and_package

        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                program = exported(graph, calls[0])
            made = aoti_compile_and_package(
                program, package_path=str(path.with_suffix(".pt2")), inductor_configs={"freezing": True}
            )
        Path(made).replace(path)

    def load(self, path: Path, precision: Precision) -> Run:
        from torch._inductor import aoti_load_package

        package = aoti_load_package(str(path))

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            found = package(*tensors)
            return [found] if isinstance(found, Tensor) else list(found)

        return run
