"""A graph as TorchScript, which OpenVINO reads, or as a program of `torch.export`, the newer form.

For OpenVINO the newer form takes several times as long to make, for the same speed afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def traced(graph: nn.Module, examples: Sequence[Tensor]) -> Any:
    """The traced module. examples: one for each input; their values do not matter."""
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # sizes other than the first become constants, which is intended
        return torch.jit.trace(graph, tuple(examples), strict=False, check_trace=False).eval()


def exported(graph: nn.Module, examples: Sequence[Tensor]) -> Any:
    """The program of `torch.export`, with any size in the first dimension of each input; as for `traced`."""
    from torch.export import Dim, export

    doubled = tuple(torch.cat([example, example]) for example in examples)  # 1 would become a constant
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        return export(graph.eval(), doubled, dynamic_shapes=(({0: Dim.DYNAMIC},) * len(doubled),))
