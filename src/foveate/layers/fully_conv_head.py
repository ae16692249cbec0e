"""Fully convolutional head of 3D networks, for test crops larger than the training crop.

The head of SlowFast, I3D and X3D in their releases: the last maps are average-pooled over all frames and over
spatial windows of the size that the training crop had there, with stride 1; each position is classified and
the logits are averaged. At the training crop this is a global average pool; at 256 pixels after training at
224 there are 2 x 2 overlapping positions, so the centre has more weight than in a global pool.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FullyConvHead(nn.Module):
    """Spatial window pooling of one or more pathways, concatenation, and a linear layer at each position.

    channels: input of the linear layer. window: side of the spatial window in cells of the first pathway's
    maps; a map smaller than that is one window. embed: layers between pooling and classifier, from
    (B, C, 1, h, w) to `channels`. ValueError for a window below 1.
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
        """A new, untrained linear layer for `num_classes` classes."""
        self.linear = nn.Linear(self.channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def features(self, *maps: Tensor) -> Tensor:
        """The classifier's input at P positions, (B, P, channels). maps: (B, C, T, h, w) of each pathway.

        Positions are those of the first pathway; in maps of another size the windows cover the same part of
        the image, rounded outwards to whole cells.
        """
        sides = maps[0].shape[3:]
        windows = [min(self.window, int(side)) for side in sides]  # a compiler traces sizes as tensors
        pooled = [_pool_windows(x, sides, windows) for x in maps]
        return self.embed(torch.cat(pooled, dim=1)).flatten(2).transpose(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) of features (..., channels)."""
        return self.linear(self.dropout(features))


def _pool_windows(maps: Tensor, sides: Sequence[int], windows: Sequence[int]) -> Tensor:
    """Average-pool maps (B, C, T, h, w) to (B, C, 1, rows, columns) of window positions.

    sides: height and width of the maps in whose cells `windows`, height and width of a window, are given.
    """
    if maps.shape[3:] == sides:
        return F.avg_pool3d(maps, (int(maps.shape[2]), *windows), stride=1)
    maps = maps.mean(2, keepdim=True)
    for dim, side, window in zip((3, 4), sides, windows, strict=True):
        cells = maps.shape[dim]
        ends = [(i * cells // side, -(-(i + window) * cells // side)) for i in range(side - window + 1)]
        maps = torch.stack([maps.narrow(dim, a, b - a).mean(dim) for a, b in ends], dim)
    return maps
