"""The two policies of Uni-AdaFocus: which moments of a video matter, and which part of the frame.

Wang et al., "Uni-AdaFocus", TPAMI 2024 (arXiv 2412.11228). Neither has a memory: time is seen by convolutions
over neighbouring glances. What they choose carries no gradient; how they learn stands in uni.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TemporalPolicy(nn.Module):
    """Weights of the glances, which add up to 1: three convolutions over time and a softmax.

    channels: of the glance features. width: of the layers between.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, (3, 1), padding=(1, 0), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, (3, 1), padding=(1, 0), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 1, 1, bias=False),
        )

    def scores(self, features: Tensor) -> Tensor:
        """Before the softmax, (B, T). features: (B, T, C)."""
        scores: Tensor = self.layers(features.transpose(1, 2).unsqueeze(-1))  # (B, 1, T, 1)
        return scores.flatten(1)

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, T, C). Returns weights (B, T)."""
        return self.scores(features).float().softmax(-1)


class SpatialPolicy(nn.Module):
    """Boxes from the glance maps, which are detached inside: three 3D convolutions and one over all of space.

    channels, side: of the maps. span: glances that share a box, the last convolution's extent in time; 1
    gives each its own.
    """

    def __init__(self, channels: int, side: int, width: int = 128, span: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(channels, width, 1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, 4, (span, side, side), bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """maps: (B, T, C, h, w). Returns boxes (B, T - span + 1, 4): row, column, height, width in (0, 1)."""
        boxes: Tensor = self.layers(maps.detach().transpose(1, 2))  # (B, 4, T - span + 1, 1, 1)
        return torch.sigmoid(boxes.flatten(2).transpose(1, 2).float())
