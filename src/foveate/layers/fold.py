"""Fold time into the batch dimension and back, so that a 2D network treats every frame as an image."""

from __future__ import annotations

from torch import Tensor


def fold_time(clip: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B*T, C, H, W); a channels-last view if the clip is stored as (B, T, H, W, C)."""
    batch, channels, frames, height, width = clip.shape
    return clip.transpose(1, 2).reshape(batch * frames, channels, height, width)


def unfold_time(maps: Tensor, num_frames: int) -> Tensor:
    """(B*T, C, H, W) to (B, C, T, H, W); a view."""
    return maps.unflatten(0, (-1, num_frames)).transpose(1, 2)  # (B, T, C, H, W) -> (B, C, T, H, W)
