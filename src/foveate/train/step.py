"""One optimizer step: forward and backward over the parts of a batch, then one update of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from foveate.errors import UsageError
from foveate.infer.engine import memory_for
from foveate.train.config import TrainConfig
from foveate.train.distributed import ProcessGroup
from foveate.train.numerics import DTYPES, Numerics
from foveate.train.optim import set_rate
from foveate.train.run import BadFile
from foveate.train.state import TrainState


class Learnable(Protocol):
    """What the loop itself needs of a batch; the rest is between the batches and the objective."""

    @property
    def labels(self) -> Tensor: ...  # one row a clip; its length counts the clips

    @property
    def bad(self) -> Sequence[BadFile]: ...  # files that should have been in the batch


B = TypeVar("B", bound=Learnable)
Objective = Callable[[nn.Module, B], dict[str, Tensor]]
"""Means over the clips of a batch, of which "loss" is minimised and the others are only shown."""


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of all random numbers that the networks draw in one step of one process."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0])


def train_step(
    state: TrainState,
    parts: Sequence[B],
    objective: Objective[B],
    config: TrainConfig,
    world: ProcessGroup,
    rate: float,
) -> tuple[dict[str, float], int]:
    """Learn from the parts of one batch and count the step.

    rate: learning rate, before the factors of the groups. Returns the values of the objective, each summed
    over the clips of all processes, and the number of these clips. With no clip (all files bad) nothing is
    learnt. A loss or gradient that is not finite raises UsageError before it reaches the weights.
    """
    torch.manual_seed(step_seed(config.seed, state.step, world.rank))
    set_rate(state.optimizer, rate)
    clips = sum(world.gather(sum(len(part.labels) for part in parts)))
    totals: dict[str, float] = {}
    if clips:
        state.optimizer.zero_grad()
        totals = _added(world.gather(_backward(state, parts, objective, clips)))
        _check_finite(totals["loss"], "loss", state)
        _update(state, config, world)
    state.step += 1
    if clips and state.ema:
        state.ema.update(state.model, state.step)
    return totals, clips


def try_step(state: TrainState, part: B, objective: Objective[B], way: Numerics) -> float:
    """The loss of a part of a batch, whose gradient is computed in a way that is not that of the state."""
    count = len(part.labels)
    return _backward(replace(state, numerics=way), [part], objective, count)["loss"] / count


def _backward(state: TrainState, parts: Sequence[B], objective: Objective[B], clips: int) -> dict[str, float]:
    """Add the gradient of this process's share of the mean loss over all `clips`; the sums of its values."""
    assert state.numerics is not None
    device, kind = next(state.model.parameters()).device.type, state.numerics.kind
    sums: list[dict[str, float]] = []
    for part in parts:
        count = len(part.labels)
        if not count:
            continue
        with memory_for(count, "lower batch, or raise accumulate"):
            with torch.autocast(device, DTYPES[kind], enabled=kind != "fp32"):
                values = objective(state.model, part)
            state.scaler.scale(values["loss"] * (count / clips)).backward()
        sums.append({name: float(value.detach()) * count for name, value in values.items()})
    return _added(sums)


def _update(state: TrainState, config: TrainConfig, world: ProcessGroup) -> None:
    params = [param for group in state.optimizer.param_groups for param in group["params"]]
    world.sum_gradients(params)
    state.scaler.unscale_(state.optimizer)
    gradients = [param.grad for param in params if param.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not state.scaler.is_enabled():  # which skips a step that overflowed, and scales less
        _check_finite(float(norm), "gradient", state)
    if config.clip_norm:
        torch.nn.utils.clip_grads_with_norm_(params, config.clip_norm, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    world.mean_statistics(state.model)


def _added(sums: Sequence[dict[str, float]]) -> dict[str, float]:
    names: dict[str, Any] = {name: None for one in sums for name in one}  # a set that keeps the order
    return {name: sum(one.get(name, 0.0) for one in sums) for name in names}


def _check_finite(value: float, what: str, state: TrainState) -> None:
    if not math.isfinite(value):
        place = f"step {state.step} (epoch {state.epoch})"
        hint = "lower the rate, warm up or clip; the last checkpoint is from before"
        raise UsageError(place, f"the {what} is {value}", hint)
