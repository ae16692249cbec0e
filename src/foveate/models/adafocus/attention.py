"""A policy of AdaFocus that labels alone can teach, for some hundred videos.

The policy of the paper learns by reinforcement. This addition learns from a guide: attention to the maps that
the local network makes of whole frames, in which a subject is far easier to find than in a glance, and a
classifier of what it attends to. The policy learns to attend to the same places by the glance
(train/recipes/attention.py). The guide has no part in inference.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Placement(NamedTuple):
    """logits: (B, T, A) of the A positions. state: (B, A), after the last frame."""

    logits: Tensor
    state: Tensor


class CellAttention(nn.Module):
    """Attention over the cells of a feature map: every cell is scored by the same small network.

    channels: of the map. squeeze: of its projection, which the recipe sets to whitened principal components
    and leaves as they are. width: hidden units of the score.
    """

    def __init__(self, channels: int, squeeze: int = 256, width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, squeeze, 1)
        self.score = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv2d(squeeze, width, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv2d(width, 1, 1),
        )

    def projected(self, maps: Tensor) -> Tensor:
        """(B, T, C, h, w) to (B, T, squeeze, h, w)."""
        squeezed: Tensor = self.project(maps.detach().flatten(0, 1))
        return squeezed.unflatten(0, maps.shape[:2])

    def shares(self, projected: Tensor) -> Tensor:
        """Attention (B, T, h, w) of the cells, of sum 1 in each frame. projected: (B, T, squeeze, h, w)."""
        scores: Tensor = self.score(projected.flatten(0, 1))  # (B*T, 1, h, w)
        return scores.flatten(1).softmax(-1).view(*projected.shape[:2], *projected.shape[3:])


class Guide(CellAttention):
    """Attention to maps of the local network, and a classifier of what it attends to."""

    def __init__(self, channels: int, num_classes: int, squeeze: int = 256) -> None:
        super().__init__(channels, squeeze)
        self.head = nn.Linear(squeeze, num_classes)

    def forward(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """projected: (B, T, squeeze, h, w). Returns logits (B, classes), and the attention (B, T, h, w)."""
        shares = self.shares(projected)
        attended = torch.einsum("bthw,btchw->btc", shares, projected)
        return self.head(attended).mean(1), shares

    def reset(self, num_classes: int) -> None:
        """A new, untrained linear layer for `num_classes` classes."""
        self.head = nn.Linear(self.head.in_features, num_classes)


class AttentionPolicy(nn.Module):
    """The patch lies where most of the attention to the glance falls, summed over the frames so far.

    The sum is one of log-shares, so that a frame in which the subject is hard to see does not move the patch
    far. channels, local_channels: of the maps of both networks. side: of the glance's map. windows: positions
    a side of the grid, side of the frame, side of the patch in pixels.
    """

    coverage: Tensor

    def __init__(
        self,
        channels: int,
        local_channels: int,
        side: int,
        windows: tuple[int, int, int],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.attention = CellAttention(channels)
        self.guide = Guide(local_channels, num_classes)
        self.register_buffer("coverage", window_coverage(side, *windows), persistent=False)

    def forward(self, maps: Tensor, state: Tensor | None = None) -> Placement:
        """maps: (B, T, C, h, w), detached inside. state: (B, A), of the call before, to go on from it.

        The logits are sums of log-shares.
        """
        shares = self.attention.shares(self.attention.projected(maps)).flatten(2)  # (B, T, cells)
        sums = (F.linear(shares, self.coverage) + 1e-6).log().cumsum(1)
        if state is not None:
            sums = sums + state.unsqueeze(1)
        return Placement(sums, sums[:, -1])


def window_coverage(side: int, grid: int, frame: int, patch: int) -> Tensor:
    """Share of each cell of a map (side x side) that a patch at each position covers, (grid**2, side**2)."""
    starts = torch.arange(grid) * (frame - patch) // (grid - 1)
    edges = torch.arange(side + 1) * frame / side
    low = torch.maximum(starts[:, None], edges[None, :-1])
    high = torch.minimum(starts[:, None] + patch, edges[None, 1:])
    share = (high - low).clamp(min=0) * side / frame  # (grid, side), along one axis
    return torch.einsum("ai,bj->abij", share, share).reshape(grid**2, side**2)
