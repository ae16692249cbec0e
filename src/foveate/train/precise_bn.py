"""Batch-norm statistics of the weights as they are, in place of a moving average over weights that were.

Precise BN (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021), which the SlowFast release computes over
200 training batches in front of an evaluation: the mean of the batches' means, and the pooled variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from foveate.train.optim import BATCH_NORMS

B = TypeVar("B")


@torch.no_grad()
def precise_bn(
    model: nn.Module, batches: Iterable[B], run: Callable[[nn.Module, B], object] = nn.Module.__call__
) -> None:
    """Replace the running statistics of every batch norm in train mode by those over `batches`.

    run: what sends a batch through the model. ValueError if there is no batch. Nothing else in the model
    changes, and no batch is drawn where no norm is in train mode.
    """
    norms = [_Statistics(module) for module in model.modules() if _learns_statistics(module)]
    if not norms:
        return
    try:
        count = 0
        for batch in batches:
            run(model, batch)
            count += 1
            for norm in norms:
                norm.add()
        if not count:
            raise ValueError("precise batch norm needs at least one batch")
        for norm in norms:
            norm.settle(count)
    finally:
        for norm in norms:
            norm.release()


@contextmanager
def in_modes_of(model: nn.Module, other: nn.Module) -> Iterator[None]:
    """Put each part of `other` in the mode of the same part of `model`, for as long as the context lasts."""
    before = [module.training for module in other.modules()]
    _set_modes(other, [module.training for module in model.modules()])
    try:
        yield
    finally:
        _set_modes(other, before)


def _set_modes(model: nn.Module, modes: Iterable[bool]) -> None:
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode


def _learns_statistics(module: nn.Module) -> bool:
    return isinstance(module, BATCH_NORMS) and module.track_running_stats and module.training


class _Statistics:
    """Sums of one norm. At momentum 1 its running statistics are those of the last batch."""

    def __init__(self, module: nn.Module) -> None:
        assert isinstance(module, BATCH_NORMS)
        assert module.running_mean is not None and module.running_var is not None
        assert module.num_batches_tracked is not None
        self.module = module
        self.momentum, module.momentum = module.momentum, 1.0
        self.tracked = module.num_batches_tracked.clone()
        self.mean, self.var = module.running_mean, module.running_var
        self.sum = torch.zeros_like(self.mean, dtype=torch.float64)
        self.squares = torch.zeros_like(self.sum)

    def add(self) -> None:
        mean = self.mean.double()
        self.sum += mean
        self.squares += self.var.double() + mean**2

    def settle(self, batches: int) -> None:
        mean = self.sum / batches
        self.mean.copy_(mean)
        self.var.copy_(self.squares / batches - mean**2)

    def release(self) -> None:
        """Give back what only served the sums."""
        self.module.momentum = self.momentum
        assert self.module.num_batches_tracked is not None
        self.module.num_batches_tracked.copy_(self.tracked)
