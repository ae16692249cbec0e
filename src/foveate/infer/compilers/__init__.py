"""Compilers of static parts: each makes a file of a graph, and a function of that file.

A process that finds the file needs only the second step, which takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from foveate.errors import UsageError
from foveate.infer.engine import Precision

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""Contiguous CPU tensors, whose first dimensions may be of any size, to new tensors."""


class Compiler(Protocol):
    """Interface of all compilers."""

    name: str
    package: str  # on PyPI
    suffix: str  # of its files
    precisions: tuple[Precision, ...]
    own_threads: bool  # its graphs run in threads of its own, not in PyTorch's

    def compile(
        self, graph: nn.Module, calls: Sequence[Sequence[Tensor]], precision: Precision, path: Path
    ) -> None:
        """Write a file for a module from tensors to tensors, the first dimensions of which are dynamic.

        calls: its inputs, of one call; the values do not matter. For int8 of many calls with real values.
        """
        ...

    def load(self, path: Path, precision: Precision) -> Run:
        """The function that the file holds. Any exception means that the file is of no use here."""
        ...


def compiler_named(name: str, precision: Precision) -> Compiler:
    """The compiler of this name; UsageError if it is not installed or lacks the precision."""
    from foveate.infer.compilers.inductor import InductorCompiler
    from foveate.infer.compilers.onnxruntime import OnnxCompiler
    from foveate.infer.compilers.openvino import OpenVINOCompiler

    known: tuple[Compiler, ...] = (OpenVINOCompiler(), OnnxCompiler(), InductorCompiler())
    compiler = next(each for each in known if each.name == name)
    version_of(compiler)
    if precision not in compiler.precisions:
        able = " or ".join(compiler.precisions)
        raise UsageError(f"--precision {precision}", f"{name} does not have it", f"use {able}")
    return compiler


def version_of(compiler: Compiler) -> str:
    """The version of its package; UsageError if that is not installed."""
    try:
        return version(compiler.package)
    except PackageNotFoundError as error:
        hint = f"pip install 'foveate[{compiler.name}]', or use --engine eager"
        raise UsageError(f"--engine {compiler.name}", f"{compiler.package} is not installed", hint) from error
