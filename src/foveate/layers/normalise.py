"""Convert decoded uint8 frames to the normalised float clip that a network reads."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.clip import ClipSpec


def to_clip(frames: Tensor, spec: ClipSpec, device: torch.device | str | None = None) -> Tensor:
    """Frames (B, T, H, W, C) to a float clip (B, C, T, H, W), normalised by the mean and std of `spec`.

    frames: 0 to 255, uint8, or float32 that may be overwritten.

    The memory layout stays (B, T, H, W, C), so the only copy is the conversion to float, and `fold_time` then
    gives channels-last images without another one.
    """
    pixels = frames.to(device).contiguous().float()
    width = pixels.shape[3]  # for a whole row at once, which takes a sixth of the time of single pixels
    mean, std = (255 * pixels.new_tensor(values).repeat(width) for values in (spec.mean, spec.std))
    pixels.flatten(3).sub_(mean).div_(std)
    return pixels.permute(0, 4, 1, 2, 3)
