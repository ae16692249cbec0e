"""Non-local block: self-attention over all positions of a clip.

Wang et al., "Non-local Neural Networks", CVPR 2018, section 3.2. Two releases differ, and their weights are
not interchangeable: TSM pools keys and values after their projection and does not scale the softmax; SlowFast
pools before it, and either scales the softmax or divides the products by their number instead. In both the
last norm starts at zero, so that a new block is the identity.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from foveate.errors import UsageError
from foveate.layers.fold import fold_time, unfold_time

Attention = Literal["softmax", "dot"]


class _Parts(nn.Module):
    """The layers of both forms; keys and values are pooled 2x2 in space."""

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
    """x + norm(out(softmax(query . key) value)) over all T*H*W positions of a clip (TSM)."""

    def forward(self, maps: Tensor, num_frames: int) -> Tensor:
        """maps: (B*T, C, H, W). Returns the same shape."""
        clip = unfold_time(maps, num_frames)  # (B, C, T, H, W)
        query = self.query(clip).flatten(2).transpose(1, 2)  # (B, THW, C/2)
        key = self.pool(self.key(clip)).flatten(2)  # (B, C/2, THW/4)
        value = self.pool(self.value(clip)).flatten(2).transpose(1, 2)  # (B, THW/4, C/2)
        weights = torch.softmax(query @ key, dim=-1)  # (B, THW, THW/4)
        attended = (weights @ value).transpose(1, 2).unflatten(2, clip.shape[2:])  # (B, C/2, T, H, W)
        return fold_time(clip + self.norm(self.out(attended)))


class NonLocal3D(_Parts):
    """`NonLocal` as SlowFast's release has it: on clips (B, C, T, H, W), pooled before the projection.

    attention: "softmax" over the keys, scaled by 1 / sqrt(channels), or "dot", products over their number.
    """

    def __init__(self, channels: int, attention: Attention) -> None:
        super().__init__(channels)
        self.attention = attention

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, C, T, H, W), H and W at least 2, else UsageError. Returns the same shape."""
        if min(clip.shape[3:]) < 2:
            raise UsageError(
                "clip", "is too small for the 2x2 pool of a non-local block", "give a larger crop"
            )
        pooled = self.pool(clip)
        query = self.query(clip).flatten(2).transpose(1, 2)  # (B, THW, C/2)
        key = self.key(pooled).flatten(2)  # (B, C/2, THW/4)
        value = self.value(pooled).flatten(2).transpose(1, 2)  # (B, THW/4, C/2)
        products = query @ key  # (B, THW, THW/4)
        if self.attention == "softmax":
            weights = torch.softmax(products * key.shape[1] ** -0.5, dim=-1)
        else:
            weights = products / key.shape[2]
        attended = (weights @ value).transpose(1, 2).unflatten(2, clip.shape[2:])  # (B, C/2, T, H, W)
        return clip + self.norm(self.out(attended))

    def extra_repr(self) -> str:
        return f"attention={self.attention}"
