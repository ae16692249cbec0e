"""Lateral connections: what the Fast pathway sees joins the Slow one, at a fraction of its frames.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, section 3.4 and table 5c. Fast
features (B, beta*C, alpha*T, H, W) become (B, C', T, H, W) by one of three transforms, then are concatenated
behind the Slow channels or added to them. Only the time-strided convolution is in public code; where the
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
    """The Fast frames that the Slow pathway sees: evenly spread from the first to the last, truncated.

    Not every alpha-th: 32 frames at alpha 8 give 0, 10, 20, 31 (the release's rule, in whole numbers).
    """
    count = fast // alpha
    return [i * (fast - 1) // max(count - 1, 1) for i in range(count)]


class TimeStridedConv(nn.Module):
    """A convolution of `kernel` frames at stride alpha, with norm and ReLU."""

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
    """The Fast frames of the instants that the Slow pathway sees."""

    def __init__(self, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, fast: Tensor) -> Tensor:
        return fast[:, :, slow_indices(fast.shape[2], self.alpha)]


class TimeToChannel(nn.Module):
    """Alpha consecutive frames packed into channels, the first frame's channels first."""

    def __init__(self, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, fast: Tensor) -> Tensor:
        groups = fast.unflatten(2, (-1, self.alpha))  # (B, c, T, alpha, H, W)
        return groups.permute(0, 3, 1, 2, 4, 5).flatten(1, 2)


class Lateral(nn.Module):
    """One lateral connection. `channels`: how many it adds to the Slow pathway, 0 for a sum or none.

    transform: "conv" gives `ratio` times the Fast channels, or the Slow width if they are to be added;
    "sample" and "channels" (time to channel) give what they give, and ValueError says where that cannot be
    added. kernel: frames of the convolution, odd. A Fast map of another side is resized to the nearest pixel.
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
        wide = {
            "conv": slow_channels if fusion == "sum" else ratio * fast_channels,
            "sample": fast_channels,
            "channels": alpha * fast_channels,
            "none": 0,
        }[transform]
        if fusion == "sum" and transform != "none" and wide != slow_channels:
            raise ValueError(
                f"a sum wants {slow_channels} lateral channels and {transform} gives {wide}: "
                "use fusion concat, or alpha * beta = 1 with transform channels"
            )
        self.fusion = fusion
        self.channels = wide if fusion == "concat" else 0
        self.transform: nn.Module | None = None
        if transform == "conv":
            self.transform = TimeStridedConv(fast_channels, wide, alpha, kernel)
        elif transform != "none":
            self.transform = TimeStridedSampling(alpha) if transform == "sample" else TimeToChannel(alpha)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """slow: (B, C, T, H, W); fast: (B, beta*C, F, h, w). Returns (B, C + channels, T, H, W)."""
        if self.transform is None:
            return slow
        seen = self.transform(fast)
        if seen.shape[3:] != slow.shape[3:]:
            seen = F.interpolate(seen, size=slow.shape[2:])
        return slow + seen if self.fusion == "sum" else torch.cat([slow, seen], dim=1)
