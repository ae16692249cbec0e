"""The two policies of Uni-AdaFocus: which moments of a video matter, and which part of the frame.

Wang et al., "Uni-AdaFocus", TPAMI 2024 (arXiv 2412.11228). Neither has a memory: time is seen by convolutions
over neighbouring glances. What they choose carries no gradient; how they learn stands in uni.py. A second
spatial policy, which is not the paper's, finds small subjects with few videos: `SpatialAttention`.
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


class SpatialAttention(nn.Module):
    """Boxes as small as can be around what attention to the glance maps finds; not the paper's.

    Where a subject is small, the mean over a box of the map says little of where it is, and the paper's
    policy learns to show all of the frame. Attention learns from the labels too, but from every cell at once:
    a classifier of the attended cells (`UniModel.box_logits`) has to be right.

    channels, width: of the maps, and of the layer between. span: glances that share a box and an attention,
    of sum 1; 1 gives each its own. least: side of the boxes, as a share of the frame's. stride: pixels of the
    glance from one cell to the next. pixels: side of the glance. offset: see `FocusNetworks.glance_offset`.
    """

    SHARPNESS = 4  # a box lies around the mean of this power of the attention: what is far off has no say

    def __init__(
        self, channels: int, width: int, span: int, least: float, stride: int, pixels: int, offset: int = 0
    ) -> None:
        super().__init__()
        self.span, self.least, self.stride, self.pixels, self.offset = span, least, stride, pixels, offset
        self.score = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(width, 1, 1),
        )

    def shares(self, maps: Tensor) -> Tensor:
        """Attention (B, T/span, span, h, w). maps: (B, T, C, h, w), detached inside."""
        scores: Tensor = self.score(maps.detach().flatten(0, 1)).float()  # (B*T, 1, h, w)
        alike = scores.squeeze(1).unflatten(0, (-1, maps.shape[1] // self.span, self.span))
        return alike.flatten(2).softmax(-1).unflatten(-1, alike.shape[2:])

    def attended(self, maps: Tensor) -> Tensor:
        """What is found there, (B, T/span, C)."""
        together = maps.detach().float().unflatten(1, (-1, self.span))
        return torch.einsum("bnshw,bnschw->bnc", self.shares(maps), together)

    def forward(self, maps: Tensor) -> Tensor:
        """maps: (B, T, C, h, w). Returns boxes (B, T/span, 4): row and column in [0, 1], sides 0."""
        where = self.shares(maps).sum(2)
        where = where**self.SHARPNESS
        where = where / where.sum((-2, -1), keepdim=True)
        first = 0.5 + self.offset  # where the first cell is centred
        height, width = (torch.arange(n, device=maps.device) * self.stride + first for n in where.shape[-2:])
        centre = torch.stack([(where.sum(-1) * height).sum(-1), (where.sum(-2) * width).sum(-1)], -1)
        corner = ((centre / self.pixels - self.least / 2) / (1 - self.least)).clamp(0, 1)
        return torch.cat([corner, torch.zeros_like(corner)], -1)
