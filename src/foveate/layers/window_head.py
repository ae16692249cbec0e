"""A classifier for clips larger than those it was trained on: one answer for each window of training size.

The head of SlowFast, I3D and X3D in their releases: the last maps are averaged over all frames and over
windows as large as the training crop left them, each window is classified, and the answers are averaged. At
the training crop that is the plain global pool; at 256 pixels after training at 224 there are 2 x 2 windows,
which overlap, so that the middle weighs more than a global pool would let it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowHead(nn.Module):
    """Window averages of one or several pathways, concatenated, and a linear layer at each position.

    window: side of the window on the first pathway's maps; a smaller map is one window. embed: what happens
    to a window's average (B, C, 1, h, w) in front of the classifier, giving `channels`. ValueError for a
    window below 1.
    """

    def __init__(
        self, channels: int, num_classes: int, window: int, dropout: float, embed: nn.Module | None = None
    ) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window is {window}; it must be at least 1")
        self.window = window
        self.channels = channels
        self.embed = embed or nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """A new linear layer for `num_classes` classes."""
        self.linear = nn.Linear(self.channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def features(self, *maps: Tensor) -> Tensor:
        """maps: (B, C, T, h, w) of each pathway. Returns (B, P, channels), what is classified at P positions.

        The windows are those of the first pathway; on a map of another side they cover the same parts of the
        picture, out to whole cells.
        """
        whole = maps[0].shape[3:]
        windows = [min(self.window, side) for side in whole]
        pooled = [_window_average(x, whole, windows) for x in maps]
        return self.embed(torch.cat(pooled, dim=1)).flatten(2).transpose(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) of features (..., channels)."""
        return self.linear(self.dropout(features))


def _window_average(maps: Tensor, whole: Sequence[int], windows: Sequence[int]) -> Tensor:
    """(B, C, T, h, w) to (B, C, 1, positions down, positions across) of windows in maps of sides `whole`."""
    if maps.shape[3:] == whole:
        return F.avg_pool3d(maps, (maps.shape[2], *windows), stride=1)
    maps = maps.mean(2, keepdim=True)
    for dim, side, window in zip((3, 4), whole, windows, strict=True):
        own = maps.shape[dim]
        ends = [(i * own // side, -(-(i + window) * own // side)) for i in range(side - window + 1)]
        maps = torch.stack([maps.narrow(dim, a, b - a).mean(dim) for a, b in ends], dim)
    return maps
