"""Batch-norm statistics of the weights as they are, in place of a moving average over weights that were.

Precise BN (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021), which the SlowFast release computes over
200 training batches in front of an evaluation: the mean of the batches' means, and the pooled variance.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def precise_bn(model: nn.Module, clips: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch norm by those over `clips`, batches of the model's input.

    ValueError if there is no batch. The model is left in the mode it was in; nothing else in it changes.
    """
    modes = {module: module.training for module in model.modules()}
    norms = [_Statistics(module) for module in modes if _keeps_statistics(module)]
    model.train()
    try:
        batches = 0
        for clip in clips:
            model(clip)
            batches += 1
            for norm in norms:
                norm.add()
        if not batches:
            raise ValueError("precise batch norm needs at least one batch")
        for norm in norms:
            norm.settle(batches)
    finally:
        for norm in norms:
            norm.module.momentum = norm.momentum
        for module, mode in modes.items():
            module.training = mode


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.track_running_stats


class _Statistics:
    """Sums of one norm. At momentum 1 its running statistics are those of the last batch."""

    def __init__(self, module: nn.Module) -> None:
        assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        assert module.running_mean is not None and module.running_var is not None
        self.module = module
        self.momentum, module.momentum = module.momentum, 1.0
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
