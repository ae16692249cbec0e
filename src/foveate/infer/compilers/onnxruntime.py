"""ONNX Runtime: float32 on any CPU, by way of an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.infer.compilers import Run
from foveate.infer.engine import Precision

OPSET = 18


class OnnxCompiler:
    """Exports a graph and runs the file.

    PyTorch's older exporter is quicker, but has no antialiased resizing, and of operations in place it makes
    others without a word.
    """

    name = "onnxruntime"
    package = "onnxruntime"
    suffix = ".onnx"
    precisions: tuple[Precision, ...] = ("fp32",)  # its bfloat16 lacks convolutions on CPUs
    own_threads = True

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()  # now, as an engine lowers it while parts are compiled

    def compile(
        self, graph: nn.Module, calls: Sequence[Sequence[Tensor]], precision: Precision, path: Path
    ) -> None:
        onnx_program(graph, calls[0]).save(path)

    def load(self, path: Path, precision: Precision) -> Run:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            path.read_bytes(), _settings(onnxruntime, self.threads), providers=["CPUExecutionProvider"]
        )
        names = [place.name for place in session.get_inputs()]

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            arrays = {name: x.numpy() for name, x in zip(names, tensors, strict=True)}
            return [torch.from_numpy(array) for array in session.run(None, arrays)]

        return run


def onnx_program(
    graph: nn.Module, examples: Sequence[Tensor], inputs: Sequence[str] = (), outputs: Sequence[str] = ()
) -> Any:
    """A module from tensors to tensors as an ONNX program; the first dimensions of inputs may be of any size.

    examples: one for each input; their values do not matter. inputs, outputs: names for them.
    """
    doubled = tuple(torch.cat([example, example]) for example in examples)  # 1 would become a constant
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
        return torch.onnx.export(
            graph.eval(),
            doubled,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            dynamic_shapes=(({0: torch.export.Dim.DYNAMIC},) * len(doubled),),
            input_names=inputs or None,
            output_names=outputs or None,
        )


def _settings(onnxruntime: Any, threads: int) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    return settings
