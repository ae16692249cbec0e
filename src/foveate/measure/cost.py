"""Measure what a model costs: multiply-adds by part, parameters, latency, memory.

Multiply-adds (layers/macs.py says what counts) are counted here as the operations run, so a dynamic model is
charged for what it computed on the given input. That slows a call down: prediction and evaluation read the
`macs` of a `ModelOutput` instead, which the tests hold to this count.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.layers.macs import mac_counter


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one call. parts: of each direct submodule, by name, the largest first."""

    total: int
    parts: dict[str, int]


def count_macs(model: nn.Module, *inputs: Any, call: Callable[..., Any] | None = None) -> Cost:
    """Run `model` once in eval mode on `inputs` and count its multiply-adds.

    call: a method of the model to run instead of `forward`; `parts` are then all 0.
    """
    modes = {module: module.training for module in model.modules()}  # frozen submodules may differ
    model.eval()
    counter = mac_counter()
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
    """Count of a submodule: its own, or the sum over its submodules if it is never called itself."""
    inside = [name for name in by_module if name == part or name.startswith(f"{part}.")]
    top = [name for name in inside if not any(name.startswith(f"{other}.") for other in inside)]
    return sum(by_module[name] for name in top)


def count_parameters(model: nn.Module) -> int:
    """Number of scalars in all parameters of the model."""
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call over the repeats. low, high: first and third quartile."""

    median: float
    low: float
    high: float


def measure_latency(
    call: Callable[[], Any], repeats: int = 10, device: str | torch.device = "cpu"
) -> Latency:
    """Time `call` after one warm-up call, synchronising with the device each time."""
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
    """Peak memory of this process in MB (1e6 bytes): resident on a CPU, allocated by PyTorch on a GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the process that this one was started by
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(found[1]) * 1024 / 1e6 if found else math.nan
    try:
        import resource
    except ImportError:  # a Python that was built without it
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
