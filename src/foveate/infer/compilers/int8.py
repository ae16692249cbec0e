"""Weights and activations of an OpenVINO model in 8 bits, after training, by NNCF.

Ranges come from calls with real inputs. NNCF's `quantize` is entered below its surface, which reports every
call to its maker over the network.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor

from foveate.errors import UsageError

PACKAGE = "nncf"
# what only moves values stays out, or the CPU plugin changes their layout on the way into it and out of it
MOVES = ("Concat", "Pad", "VariadicSplit")


def demand_nncf() -> None:
    """UsageError if NNCF is not installed."""
    try:
        version(PACKAGE)
    except PackageNotFoundError as error:
        hint = "pip install 'foveate[int8]', or use --precision bf16"
        raise UsageError("--precision int8", "nncf, which calibrates, is not installed", hint) from error


def quantised(model: Any, calls: Sequence[Sequence[Tensor]]) -> Any:
    """An OpenVINO model in 8 bits. calls: the inputs of each, in the order of the model's."""
    import nncf
    from nncf.openvino.quantization.quantize_model import quantize_impl
    from openvino._offline_transformations import apply_moc_transformations

    # puts norms into convolutions, which are quantised apart otherwise, and makes constants of depthwise
    # kernels, which stay float otherwise
    apply_moc_transformations(model, cf=True, smart_reshape=False)
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function changes others' handlers, too
    with redirect_stdout(io.StringIO()):  # bars of progress
        return quantize_impl(
            model,
            nncf.Dataset([[tensor.numpy() for tensor in call] for call in calls]),
            subset_size=len(calls),
            ignored_scope=nncf.IgnoredScope(types=list(MOVES), validate=False),
        )
