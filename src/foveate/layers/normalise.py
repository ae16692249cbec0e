"""From bytes, as frames are decoded and cut, to the floats that a network reads."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.clip import ClipSpec


def to_clip(frames: Tensor, spec: ClipSpec, device: torch.device | str | None = None) -> Tensor:
    """uint8 (B, T, H, W, C) to the normalised float clip (B, C, T, H, W), a view of the same memory order.

    The one copy is the conversion to float. Folding time into the batch afterwards gives channels-last
    pictures without another one.
    """
    pixels = frames.to(device).contiguous().float()
    pixels.sub_(255 * pixels.new_tensor(spec.mean)).div_(255 * pixels.new_tensor(spec.std))
    return pixels.permute(0, 4, 1, 2, 3)
