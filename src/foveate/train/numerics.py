"""In which precision and memory order networks learn, and what is fastest on this machine, by measurement.

`--precision auto` tries the real model on its first batch, forward and backward without the update, in
float32 and bfloat16, with kernels in either order. Nothing of the training changes by it; what was chosen is
part of the state, so that a resumed run computes alike.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from foveate.errors import FoveateError
from foveate.infer.choice import has_bf16
from foveate.layers.order import ORDERS, set_order

Kind = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Kind, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROUNDS = 3  # of which the median counts, after one unseen
BUDGET_S = 20.0  # after which no further round begins
SURE = 0.95  # of the time of what is simpler: what is hardly faster is not chosen
TOLERANCE = 0.05  # of the loss in float32


@dataclass(frozen=True)
class Numerics:
    """How forward and backward passes compute."""

    kind: Kind = "fp32"  # of autocast; weights are float32 always
    channels_last: bool = False  # memory order of the kernels, which feature maps take over

    def __str__(self) -> str:
        return f"{self.kind} channels-last" if self.channels_last else self.kind


Attempt = Callable[[Numerics], float]
"""Forward and backward pass of a batch; the loss."""


def fastest(model: nn.Module, attempt: Attempt) -> tuple[Numerics, str]:
    """The quickest way for a model, whose kernels are in its order from then on, and a line that says why.

    What differs from the loss in float32 by more than `TOLERANCE`, has no finite gradient or fails is not
    chosen.
    """
    ways, device = [Numerics()], next(model.parameters()).device
    if any(parameter.dim() in ORDERS for parameter in model.parameters()):
        ways += [Numerics("fp32", channels_last=True)]
    if _computes_bf16(device):
        ways += [Numerics("bf16", each.channels_last) for each in ways]
    times: dict[Numerics, list[float]] = {way: [] for way in ways}
    notes: dict[Numerics, str] = {}  # on what is out of the question
    exact, end = math.nan, time.perf_counter() + BUDGET_S
    with _unchanged(model, device):
        seed = torch.initial_seed()
        for _ in range(ROUNDS + 1):
            for way in [each for each in ways if each not in notes]:
                set_order(model, way.channels_last)
                model.zero_grad()
                torch.manual_seed(seed)  # the same dropout for all
                try:
                    spent, loss = _timed(attempt, way, device)
                except (RuntimeError, FoveateError) as error:
                    if way == ways[0]:
                        raise
                    notes[way] = f"{way} fails: {str(error).splitlines()[0]}"
                    continue
                times[way].append(spent)
                if way == ways[0]:
                    exact = loss
                elif not abs(loss - exact) <= TOLERANCE * abs(exact):  # NaN is not
                    notes[way] = f"{way} not taken: its loss is {loss:.4g}, not {exact:.4g}"
                elif not (norm := _gradient(model)) < math.inf:
                    notes[way] = f"{way} not taken: its gradient is {norm:.4g}"
            if time.perf_counter() > end:
                break
    able = {way: statistics.median(own[1:] or own) for way, own in times.items() if way not in notes}
    chosen = ways[0]
    for way, spent in able.items():
        if spent < SURE * able[chosen]:
            chosen = way
    set_order(model, chosen.channels_last)
    others = [f"{way} {_ms(spent)}" for way, spent in able.items() if way != chosen]
    return chosen, "; ".join([f"{chosen}, {_ms(able[chosen])} a batch", *others, *notes.values()])


def _timed(attempt: Attempt, way: Numerics, device: torch.device) -> tuple[float, float]:
    _wait_for(device)
    start = time.perf_counter()
    loss = attempt(way)
    _wait_for(device)
    return time.perf_counter() - start, loss


def _gradient(model: nn.Module) -> float:
    """Its norm, inf or NaN if a part of it is."""
    parts = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return float(nn.utils.get_total_norm(parts))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _computes_bf16(device: torch.device) -> bool:
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else has_bf16()


@contextmanager
def _unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """What passes change is put back: buffers such as running statistics, gradients, random numbers."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            model.zero_grad()
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
