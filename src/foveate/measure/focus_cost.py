"""What each video of a trace cost: multiply-adds for the frames that were read and the patches looked at.

`count_macs` counts a whole call; in a batch videos differ, since one skips frames and another stops early.
So the price of a frame and of a look are measured once, and a trace says how many of each there were.
AdaFocus-TSM spends the same on every clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.measure.cost import count_macs
from foveate.models.focus import FocusModel, FocusTrace


@dataclass(frozen=True)
class FocusPrices:
    """Multiply-adds of reading a frame (glance, policies, classifier) and of a look by the local network."""

    frame: int
    look: int

    def macs(self, trace: FocusTrace) -> Tensor:
        """Those of each video of a trace, (B,)."""
        return trace.steps.cpu() * self.frame + trace.looks * self.look


def focus_prices(model: FocusModel) -> FocusPrices:
    """The prices of a model, by one black clip."""
    spec, device = model.spec, next(model.parameters()).device
    clip = torch.zeros(1, 3, spec.frames, spec.size, spec.size, device=device)
    patch = torch.zeros(1, 3, model.config.patch, model.config.patch, device=device)
    traces: list[FocusTrace] = []
    whole = count_macs(model, call=lambda: traces.append(model.trace(clip))).total
    look = count_macs(model, call=lambda: model.patch_features(patch)).total
    steps, looks = (int(number.sum()) for number in (traces[0].steps, traces[0].looks))
    return FocusPrices((whole - looks * look) // steps, look)
