"""What the Fast pathway reads: the clip, or something weaker that keeps its motion.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, table 5d: half the resolution,
gray, difference of frames and optical flow each do nearly as well as RGB. No public code holds these. The
difference is that of gray frames, which alone fits the published cost; nothing changes in front of the first.
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
    """(B, 3, T, H, W) to (B, CHANNELS[kind], T, H, W), or H/2 and W/2 for "half"."""
    views = {"half": half, "gray": gray, "difference": difference, "flow": flow}
    return clip if kind == "rgb" else views[kind](clip)


def half(clip: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; an odd last row or column stays alone."""
    return F.avg_pool3d(clip, (1, 2, 2), ceil_mode=True)


def gray(clip: Tensor) -> Tensor:
    """Brightness."""
    weights = clip.new_tensor(LUMA).view(1, 3, 1, 1, 1)
    return (clip * weights).sum(1, keepdim=True)


def difference(clip: Tensor) -> Tensor:
    """Brightness of each frame minus that of the one before it; the first is zero."""
    bright = gray(clip)
    return torch.diff(bright, dim=2, prepend=bright[:, :, :1])


def flow(clip: Tensor) -> Tensor:
    """From each frame's predecessor to it, right and down in pixels; zero at the first frame."""
    frames = clip.shape[2]
    bright = gray(clip)
    before = torch.cat([bright[:, :, :1], bright[:, :, :-1]], dim=2)
    with torch.no_grad():
        return unfold_time(optical_flow(fold_time(before), fold_time(bright)), frames)
