"""What a model really costs: multiply-adds by part, parameters, latency, memory.

One multiply-add (MAC) is one multiplication and one addition; the papers' "GFLOPs" are these. Counted are
convolutions, linear layers, matrix products (attention included) and recurrent cells, at the moment they
run: a dynamic model is charged for what it computed on the given input and nothing else. Norms,
activations, pooling and resampling are left out, as in the papers.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one call. parts: of each direct part of the model, by name, in order of size."""

    total: int
    parts: dict[str, int]


def count_macs(model: nn.Module, *inputs: Any, call: Callable[..., Any] | None = None) -> Cost:
    """Run `model` once in eval mode on `inputs` and count what it computes.

    call: a method of it to run instead; the parts are then not told apart, each counts 0.
    """
    modes = {module: module.training for module in model.modules()}  # a frozen part may have its own
    model.eval()
    counter = FlopCounterMode(display=False, custom_mapping=_MISSING)
    try:
        with counter, torch.no_grad():
            (call or model)(*inputs)
    finally:
        for module, training in modes.items():
            module.training = training
    by_module = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    parts = {name: _below(by_module, f"{type(model).__name__}.{name}") for name, _ in model.named_children()}
    return Cost(counter.get_total_flops() // 2, dict(sorted(parts.items(), key=lambda part: -part[1])))


def _below(by_module: dict[str, int], part: str) -> int:
    """What a part computed: its own count, or, of one that is never called itself, those of its parts."""
    inside = [name for name in by_module if name == part or name.startswith(f"{part}.")]
    top = [name for name in inside if not any(name.startswith(f"{other}.") for other in inside)]
    return sum(by_module[name] for name in top)


def count_parameters(model: nn.Module) -> int:
    """Numbers in all parameters of the model."""
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: median and quartiles over the repeats."""

    median: float
    low: float
    high: float


def measure_latency(
    call: Callable[[], Any], repeats: int = 10, device: str | torch.device = "cpu"
) -> Latency:
    """Time `call` after one warm-up, waiting for the device each time."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    low, median, high = statistics.quantiles(times[1:], n=4) if repeats > 1 else (times[1],) * 3
    return Latency(median, low, high)


def peak_memory_mb(device: str | torch.device = "cpu") -> float:
    """The most memory this process has held (resident on a CPU, allocated on a GPU), in megabytes."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    import resource  # which Windows has not

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def _lstm_layer(x: Shape, w0: Shape, w1: Shape, *_: Any, **__: Any) -> int:
    """One direction of one LSTM layer, two operations a multiply-add. x: (steps, batch, inputs)."""
    return 2 * prod(x[:-1]) * (prod(w0) + prod(w1))


def _recurrent_on_cuda(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """All layers and directions of a GRU or LSTM. x: (steps, batch, inputs). weights: matrices and biases."""
    return 2 * prod(x[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Both products of an attention. query: (..., n, d); key: (..., m, d); value: (..., m, e)."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _weight_a_channel(x: Shape, weight: Any, *_: Any, **__: Any) -> int:
    """Maps times one weight a channel, (C, 1, 1), as temporal aggregation does; no other product counts."""
    per_channel = isinstance(weight, tuple) and len(weight) == 3 and weight[1:] == (1, 1)
    return 2 * prod(x) if per_channel else 0


def _add_weight_a_channel(_: Shape, x: Shape, weight: Any, *__: Any, **___: Any) -> int:
    return _weight_a_channel(x, weight)


_MISSING: dict[Any, Any] = {
    torch.ops.aten.mkldnn_rnn_layer: _lstm_layer,
    torch.ops.aten._cudnn_rnn: _recurrent_on_cuda,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.mul: _weight_a_channel,
    torch.ops.aten.addcmul_: _add_weight_a_channel,
}
"""Formulas that torch's counter lacks: it takes LSTMs, on CUDA all recurrent layers, and on a CPU fused
attention for nothing.

A weight for each channel is a depthwise 1x1 convolution, which counts when it is written as one.
"""
