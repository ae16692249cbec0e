"""Time folded into the batch, and back, so that a 2D network sees every frame as one more image."""

from __future__ import annotations

from torch import Tensor


def fold_time(clip: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B*T, C, H, W); a view, channels last, when the clip is kept in decoder order."""
    batch, channels, frames, height, width = clip.shape
    return clip.transpose(1, 2).reshape(batch * frames, channels, height, width)


def unfold_time(maps: Tensor, num_frames: int) -> Tensor:
    """(B*T, C, H, W) to (B, C, T, H, W); a view."""
    return maps.unflatten(0, (-1, num_frames)).transpose(1, 2)  # (B, T, C, H, W) -> (B, C, T, H, W)
