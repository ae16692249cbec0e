"""Count the multiply-adds (MACs) of the operations that a network runs.

One MAC is one multiplication and one addition; the papers' "GFLOPs" are GMACs. Convolutions, linear layers,
matrix products (attention included) and recurrent cells count; norms, activations, pooling and resampling do
not, as in the papers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def mac_counter() -> FlopCounterMode:
    """A context manager that counts the operations run in it: `get_total_flops()`, two per multiply-add."""
    return FlopCounterMode(display=False, custom_mapping=_EXTRA_FORMULAS)


def uncounted() -> AbstractContextManager[None]:
    """A context manager in which no counter around it counts."""
    context: AbstractContextManager[None] = _disable_current_modes()
    return context


def macs_from_shapes(module: nn.Module, method: str, inputs: Sequence[Any]) -> int:
    """Multiply-adds of `module.method(*inputs)` in eval mode, from the shapes of the inputs alone.

    The arguments are those of `shapes_from_shapes`.
    """
    with uncounted(), mac_counter() as counter:
        shapes_from_shapes(module, method, inputs)
    return counter.get_total_flops() // 2


def shapes_from_shapes(module: nn.Module, method: str, inputs: Sequence[Any]) -> Any:
    """What `module.method(*inputs)` returns in eval mode, with empty tensors in place of values.

    The call runs on PyTorch's meta device, so nothing is computed and no weight is copied. inputs: tensors,
    plain values and tuples of both. The operations must not depend on the values of the tensors.
    """
    replaced = {id(t): _on_meta(t) for t in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, replaced).eval()
    with torch.no_grad():
        return getattr(twin, method)(*tree_map_only(Tensor, _on_meta, list(inputs)))


def _on_meta(tensor: Tensor) -> Tensor:
    """An empty tensor of the same shape on the meta device; floats become float32."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    empty = torch.empty(tensor.shape, dtype=dtype, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _lstm_layer(x: Shape, w0: Shape, w1: Shape, *_: Any, **__: Any) -> int:
    """One direction of one LSTM layer, two operations per multiply-add. x: (steps, batch, inputs)."""
    return 2 * prod(x[:-1]) * (prod(w0) + prod(w1))


def _recurrent_on_cuda(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """All layers and directions of a GRU or LSTM. x: (steps, batch, inputs). weights: matrices and biases."""
    return 2 * prod(x[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Both matrix products of attention. query: (..., n, d); key: (..., m, d); value: (..., m, e)."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _channel_weights(x: Shape, weight: Any, *_: Any, **__: Any) -> int:
    """Maps times one weight per channel, (C, 1, 1), as in temporal aggregation; other products count 0."""
    per_channel = isinstance(weight, tuple) and len(weight) == 3 and weight[1:] == (1, 1)
    return 2 * prod(x) if per_channel else 0


def _add_channel_weights(_: Shape, x: Shape, weight: Any, *__: Any, **___: Any) -> int:
    return _channel_weights(x, weight)


_EXTRA_FORMULAS: dict[Any, Any] = {
    torch.ops.aten.mkldnn_rnn_layer: _lstm_layer,
    torch.ops.aten._cudnn_rnn: _recurrent_on_cuda,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.mul: _channel_weights,
    torch.ops.aten.addcmul_: _add_channel_weights,
}
"""Formulas that torch's counter lacks: LSTMs, all recurrent layers on CUDA, and fused attention on a CPU.

A product with one weight per channel is a depthwise 1x1 convolution, which counts when it is written as one.
"""
