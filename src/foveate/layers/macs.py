"""Multiply-adds of the operations that a network runs.

One multiply-add (MAC) is one multiplication and one addition; the papers' "GFLOPs" are these. Counted are
convolutions, linear layers, matrix products (attention included) and recurrent cells. Norms, activations,
pooling and resampling are left out, as in the papers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def mac_counter() -> FlopCounterMode:
    """A context that counts the operations run in it, two for each multiply-add."""
    return FlopCounterMode(display=False, custom_mapping=_MISSING)


def macs_without_arithmetic(module: nn.Module, method: str, inputs: Sequence[Any]) -> int:
    """Multiply-adds of `module.method(*inputs)` in eval mode, found from the shapes alone.

    The call runs on PyTorch's meta device, so nothing is computed and no weight is copied. inputs: tensors,
    of which only the shape counts, plain values, and tuples of both. The work that the method does must not
    depend on the values of the tensors.
    """
    shells = {id(t): _shell(t) for t in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, shells).eval()
    shapes = tree_map_only(Tensor, _shell, list(inputs))
    # A counter that is on around this call must not see it as well.
    with _disable_current_modes(), mac_counter() as counter, torch.no_grad():
        getattr(twin, method)(*shapes)
    return counter.get_total_flops() // 2


def _shell(tensor: Tensor) -> Tensor:
    """The same shape and type on the meta device, in float32 whatever the precision of the network."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    empty = torch.empty(tensor.shape, dtype=dtype, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _lstm_layer(x: Shape, w0: Shape, w1: Shape, *_: Any, **__: Any) -> int:
    """One direction of one LSTM layer, two operations a multiply-add. x: (steps, batch, inputs)."""
    return 2 * prod(x[:-1]) * (prod(w0) + prod(w1))


def _recurrent_on_cuda(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """All layers and directions of a GRU or LSTM. x: (steps, batch, inputs). weights: matrices and biases."""
    return 2 * prod(x[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Both products of an attention. query: (..., n, d); key: (..., m, d); value: (..., m, e)."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _channel_weights(x: Shape, weight: Any, *_: Any, **__: Any) -> int:
    """Maps times one weight a channel, (C, 1, 1), as temporal aggregation does; no other product counts."""
    per_channel = isinstance(weight, tuple) and len(weight) == 3 and weight[1:] == (1, 1)
    return 2 * prod(x) if per_channel else 0


def _add_channel_weights(_: Shape, x: Shape, weight: Any, *__: Any, **___: Any) -> int:
    return _channel_weights(x, weight)


_MISSING: dict[Any, Any] = {
    torch.ops.aten.mkldnn_rnn_layer: _lstm_layer,
    torch.ops.aten._cudnn_rnn: _recurrent_on_cuda,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.mul: _channel_weights,
    torch.ops.aten.addcmul_: _add_channel_weights,
}
"""Formulas that torch's counter lacks: it takes LSTMs, on CUDA all recurrent layers, and on a CPU fused
attention for nothing.

A weight for each channel is a depthwise 1x1 convolution, which counts when it is written as one.
"""
