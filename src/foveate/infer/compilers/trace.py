"""A graph as TorchScript, which OpenVINO reads.

`torch.export` gives a newer form, but takes several times as long, for the same speed afterwards.
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
