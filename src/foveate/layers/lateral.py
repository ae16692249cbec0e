"""Lateral connections: fuse features of the Fast pathway into the Slow one, which has fewer frames.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, section 3.4 and table 5c. Fast
features (B, beta*C, alpha*T, H, W) become (B, C', T, H, W) by one of three transforms, then are concatenated
after the Slow channels or added to them. Only the time-strided convolution is in public code; where the
paper leaves a choice, the docstrings say what is done here. There are alpha Fast frames for each Slow one.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Transform = Literal["conv", "sample", "channels", "none"]
Fusion = Literal["concat", "sum"]


def slow_indices(fast: int, alpha: int) -> list[int]:
    """Indices of the Fast frames that the Slow pathway reads: spread evenly from first to last, rounded down.

    Not every alpha-th: 32 frames at alpha 8 give 0, 10, 20, 31 (the release's rule, in integer arithmetic).
    """
    count = fast // alpha
    return [i * (fast - 1) // max(count - 1, 1) for i in range(count)]


class TimeStridedConv(nn.Module):
    """A temporal convolution over `kernel` frames with stride alpha, batch norm and ReLU."""

    def __init__(self, channels: int, out_channels: int, alpha: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            channels, out_channels, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False
        )
        self.bn = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, fast: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(fast)))


class TimeStridedSampling(nn.Module):
    """Keep the Fast frames that the Slow pathway reads (`slow_indices`)."""

    def __init__(self, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, fast: Tensor) -> Tensor:
        return fast[:, :, slow_indices(fast.shape[2], self.alpha)]


class TimeToChannel(nn.Module):
    """Pack each alpha consecutive frames into channels, the first frame's channels first."""

    def __init__(self, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, fast: Tensor) -> Tensor:
        groups = fast.unflatten(2, (-1, self.alpha))  # (B, c, T, alpha, H, W)
        return groups.permute(0, 3, 1, 2, 4, 5).flatten(1, 2)


class Lateral(nn.Module):
    """One lateral connection; its attribute `channels` is the number it adds to the Slow pathway.

    transform: "conv" (time-strided convolution) has `ratio` times the Fast channels, or the Slow channels for
    a sum; "sample" (time-strided sampling) keeps the Fast channels; "channels" (time to channel) has alpha
    times as many; "none" leaves the Slow pathway alone. fusion: ValueError for a sum of unequal channels.
    kernel: frames of the convolution, odd. Fast maps of another size are resized (nearest pixel).
    """

    def __init__(
        self,
        slow_channels: int,
        fast_channels: int,
        alpha: int,
        transform: Transform = "conv",
        fusion: Fusion = "concat",
        kernel: int = 5,
        ratio: int = 2,
    ) -> None:
        super().__init__()
        width = {
            "conv": slow_channels if fusion == "sum" else ratio * fast_channels,
            "sample": fast_channels,
            "channels": alpha * fast_channels,
            "none": 0,
        }[transform]
        if fusion == "sum" and transform != "none" and width != slow_channels:
            raise ValueError(
                f"a sum needs {slow_channels} lateral channels and {transform} gives {width}: "
                "use fusion concat, or alpha * beta = 1 with transform channels"
            )
        self.fusion = fusion
        self.channels = width if fusion == "concat" else 0
        self.transform: nn.Module | None = None
        if transform == "conv":
            self.transform = TimeStridedConv(fast_channels, width, alpha, kernel)
        elif transform != "none":
            self.transform = TimeStridedSampling(alpha) if transform == "sample" else TimeToChannel(alpha)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """slow: (B, C, T, H, W); fast: (B, beta*C, F, h, w). Returns (B, C + channels, T, H, W)."""
        if self.transform is None:
            return slow
        lateral = self.transform(fast)
        if lateral.shape[3:] != slow.shape[3:]:
            lateral = F.interpolate(lateral, size=slow.shape[2:])
        return slow + lateral if self.fusion == "sum" else torch.cat([slow, lateral], dim=1)
