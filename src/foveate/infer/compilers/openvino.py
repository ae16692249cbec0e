"""OpenVINO: Intel's compiler for CPUs, with bfloat16 where the processor has it, and int8 that is calibrated.

The TorchScript frontend is called directly: `openvino.convert_model` does the same, but reports every
conversion to its maker over the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.infer.compilers import Run
from foveate.infer.compilers.int8 import quantised
from foveate.infer.compilers.trace import traced
from foveate.infer.engine import Precision

# what int8 leaves is in OpenVINO's default, bf16 where the processor has it
HINTS = {"fp32": {"INFERENCE_PRECISION_HINT": "f32"}, "bf16": {"INFERENCE_PRECISION_HINT": "bf16"}}


class OpenVINOCompiler:
    """Compiles with OpenVINO's CPU plugin."""

    name = "openvino"
    package = "openvino"
    suffix = ".blob"
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")
    own_threads = True

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()  # now, as an engine lowers it while parts are compiled

    def compile(
        self, graph: nn.Module, calls: Sequence[Sequence[Tensor]], precision: Precision, path: Path
    ) -> None:
        model = converted(graph, calls[0])
        if precision == "int8":
            model = quantised(model, calls)
        compiled = _core().compile_model(model, "CPU", self._settings(precision))
        path.write_bytes(_bytes(compiled.export_model()))

    def load(self, path: Path, precision: Precision) -> Run:
        compiled = _core().import_model(path.read_bytes(), "CPU", self._settings(precision))
        request, outputs = compiled.create_infer_request(), range(len(compiled.outputs))

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            request.infer([tensor.numpy() for tensor in tensors], share_inputs=True)
            # the request writes its next results into the same memory
            return [torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in outputs]

        return run

    def _settings(self, precision: Precision) -> dict[str, Any]:
        return {
            **HINTS.get(precision, {}),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
        }


def converted(graph: nn.Module, examples: Sequence[Tensor]) -> Any:
    """OpenVINO's form of a graph, with any size in the first dimension of each input."""
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced(graph, examples), example_input=tuple(examples))
    try:
        model = frontend.convert(frontend.load(decoder))
    except Exception as error:  # many lines, of which the last names the operations
        raise ValueError(str(error).strip().splitlines()[-1].lstrip("- ")) from error
    for place, example in zip(model.inputs, examples, strict=True):
        place.get_node().set_element_type(Type(example.numpy().dtype))
        place.get_node().set_partial_shape(PartialShape([-1, *example.shape[1:]]))
    model.validate_nodes_and_infer_types()
    return model


def _bytes(blob: Any) -> bytes:
    return blob if isinstance(blob, bytes) else bytes(blob.getvalue())


@cache
def _core() -> Any:
    from openvino import Core

    return Core()
