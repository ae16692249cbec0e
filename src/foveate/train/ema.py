"""Averaged weights: an exponential mean over the steps, often better than the last weights alone."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A second model, in eval mode, that follows the first.

    decay: share of the old mean that each step keeps, in (0, 1). The first steps keep less,
    (1 + step) / (10 + step), so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights and running statistics of `model`, as they are after `step` steps."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for mean, now in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)
