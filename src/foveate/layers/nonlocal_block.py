"""Every place of a clip looks at every other: the embedded-Gaussian non-local block.

Wang et al., "Non-local Neural Networks", CVPR 2018, section 3.2, in the form of the TSM release: the
softmax is not scaled by the width, keys and values are pooled 2x2 in space, and the last norm starts
at zero so that a new block changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate.layers.fold import fold_time, unfold_time


class NonLocal(nn.Module):
    """x + norm(out(softmax(query . key) value)) over all T*H*W places of a clip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.query = nn.Conv3d(channels, inner, 1)  # theta
        self.key = nn.Conv3d(channels, inner, 1)  # phi
        self.value = nn.Conv3d(channels, inner, 1)  # g
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.out = nn.Conv3d(inner, channels, 1)  # W
        self.norm = nn.BatchNorm3d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, maps: Tensor, num_frames: int) -> Tensor:
        """maps: (B*T, C, H, W). Returns the same shape."""
        clip = unfold_time(maps, num_frames)  # (B, C, T, H, W)
        query = self.query(clip).flatten(2).transpose(1, 2)  # (B, THW, C/2)
        key = self.pool(self.key(clip)).flatten(2)  # (B, C/2, THW/4)
        value = self.pool(self.value(clip)).flatten(2).transpose(1, 2)  # (B, THW/4, C/2)
        weights = torch.softmax(query @ key, dim=-1)  # (B, THW, THW/4)
        seen = (weights @ value).transpose(1, 2).unflatten(2, clip.shape[2:])  # (B, C/2, T, H, W)
        return fold_time(clip + self.norm(self.out(seen)))
