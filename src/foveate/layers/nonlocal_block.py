"""Every place of a clip looks at every other: the non-local block.

Wang et al., "Non-local Neural Networks", CVPR 2018, section 3.2. Two releases differ in detail, and weights
depend on it: TSM's pools keys and values after their projection and does not scale its softmax; SlowFast's
pools in front of it, and scales, or divides the products by their number instead of a softmax. In both the
last norm starts at zero, so that a new block changes nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from foveate.errors import UsageError
from foveate.layers.fold import fold_time, unfold_time

Weighing = Literal["softmax", "dot"]


class _Parts(nn.Module):
    """The projections that all forms share; keys and values are pooled 2x2 in space."""

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


class NonLocal(_Parts):
    """x + norm(out(softmax(query . key) value)) over all T*H*W places of a clip (TSM)."""

    def forward(self, maps: Tensor, num_frames: int) -> Tensor:
        """maps: (B*T, C, H, W). Returns the same shape."""
        clip = unfold_time(maps, num_frames)  # (B, C, T, H, W)
        query = self.query(clip).flatten(2).transpose(1, 2)  # (B, THW, C/2)
        key = self.pool(self.key(clip)).flatten(2)  # (B, C/2, THW/4)
        value = self.pool(self.value(clip)).flatten(2).transpose(1, 2)  # (B, THW/4, C/2)
        weights = torch.softmax(query @ key, dim=-1)  # (B, THW, THW/4)
        seen = (weights @ value).transpose(1, 2).unflatten(2, clip.shape[2:])  # (B, C/2, T, H, W)
        return fold_time(clip + self.norm(self.out(seen)))


class NonLocal3D(_Parts):
    """The same on clips, pooled first (SlowFast).

    weighing: "softmax" over the keys, scaled by the root of their width, or "dot", the mean product.
    """

    def __init__(self, channels: int, weighing: Weighing) -> None:
        super().__init__(channels)
        self.weighing = weighing

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, C, T, H, W), H and W at least 2, else UsageError. Returns the same shape."""
        if min(clip.shape[3:]) < 2:
            raise UsageError("clip", "leaves a non-local block no 2x2 places to pool", "give a larger crop")
        pooled = self.pool(clip)
        query = self.query(clip).flatten(2).transpose(1, 2)  # (B, THW, C/2)
        key = self.key(pooled).flatten(2)  # (B, C/2, THW/4)
        value = self.value(pooled).flatten(2).transpose(1, 2)  # (B, THW/4, C/2)
        products = query @ key  # (B, THW, THW/4)
        if self.weighing == "softmax":
            weights = torch.softmax(products * key.shape[1] ** -0.5, dim=-1)
        else:
            weights = products / key.shape[2]
        seen = (weights @ value).transpose(1, 2).unflatten(2, clip.shape[2:])  # (B, C/2, T, H, W)
        return clip + self.norm(self.out(seen))

    def extra_repr(self) -> str:
        return f"weighing={self.weighing}"
