"""Inputs of the Fast pathway: RGB, or a weaker signal that still shows motion.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, table 5d: half the resolution,
gray, frame difference and optical flow each do nearly as well as RGB. There is no public code for these. The
difference is taken between gray frames, the only reading that fits the published cost; it and the flow are
zero at the first frame.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.clip import LUMA
from foveate.layers.flow import optical_flow
from foveate.layers.fold import fold_time, unfold_time

FastInput = Literal["rgb", "half", "gray", "difference", "flow"]
CHANNELS: dict[FastInput, int] = {"rgb": 3, "half": 3, "gray": 1, "difference": 1, "flow": 2}


def fast_view(clip: Tensor, kind: FastInput) -> Tensor:
    """Convert a clip (B, 3, T, H, W) to (B, CHANNELS[kind], T, H, W); "half" halves H and W, rounded up."""
    views = {"half": half, "gray": gray, "difference": difference, "flow": flow}
    return clip if kind == "rgb" else views[kind](clip)


def half(clip: Tensor) -> Tensor:
    """Average-pool 2x2 pixels, (B, 3, T, ceil(H/2), ceil(W/2))."""
    return F.avg_pool3d(clip, (1, 2, 2), (1, 2, 2), ceil_mode=True)


def gray(clip: Tensor) -> Tensor:
    """Luma (ITU-R BT.601), (B, 1, T, H, W)."""
    weights = clip.new_tensor(LUMA).view(1, 3, 1, 1, 1)
    return (clip * weights).sum(1, keepdim=True)


def difference(clip: Tensor) -> Tensor:
    """Luma minus that of the previous frame, (B, 1, T, H, W); zero at the first frame."""
    bright = gray(clip)
    return torch.diff(bright, dim=2, prepend=bright[:, :, :1])


def flow(clip: Tensor) -> Tensor:
    """Optical flow from the previous frame, (B, 2, T, H, W), x then y in pixels; zero at the first frame."""
    frames = clip.shape[2]
    bright = gray(clip)
    before = torch.cat([bright[:, :, :1], bright[:, :, :-1]], dim=2)
    with torch.no_grad():
        return unfold_time(optical_flow(fold_time(before), fold_time(bright)), frames)
