"""X3D: a narrow 3D network of depthwise convolutions.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020, table 1, in the form
of the PyTorchVideo release: no norm on a shortcut that only changes the resolution. PySlowFast has one there.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.backbones.parts import rounded
from foveate.backbones.resnet3d import Block3D, flat_conv, init_weights

BLOCKS = (1, 2, 5, 3)  # of the four stages, times the depth factor, rounded up
BASE = 12  # channels of the stem and res2, times the width factor
EXPAND = 2.25  # inner channels of a block over its outer channels


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation over a whole clip with reduction 16 (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv3d(channels, rounded(channels / 16), 1)
        self.excite = nn.Conv3d(self.squeeze.out_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3, 4), keepdim=True)
        return x * self.excite(F.relu(self.squeeze(mean))).sigmoid()


class X3DBlock(Block3D):
    """1x1x1 to the inner channels, depthwise 3x3x3, squeeze-and-excitation if `squeeze`, 1x1x1 back.

    shortcut_norm: a norm on shortcuts that change only the resolution, as in PySlowFast.
    """

    expansion = 1

    def __init__(
        self, channels: int, out_channels: int, stride: int, squeeze: bool, shortcut_norm: bool
    ) -> None:
        super().__init__(channels, out_channels, stride)
        if self.downsample is not None and channels == out_channels and not shortcut_norm:
            self.downsample = nn.Sequential(self.downsample[0])
        inner = int(EXPAND * out_channels)
        self.conv1 = nn.Conv3d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, (1, stride, stride), 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.squeeze: nn.Module = SqueezeExcite(inner) if squeeze else nn.Identity()
        self.conv3 = nn.Conv3d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_channels)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = F.silu(self.squeeze(self.bn2(self.conv2(x))))
        return self.bn3(self.conv3(x))

    @property
    def last_norm(self) -> nn.BatchNorm3d:
        return self.bn3


class X3DBackbone(nn.Module):
    """Stem, four stages that each halve the resolution, and a last 1x1x1 convolution.

    width, depth: expansion factors of the paper (2.0 and 2.2 for XS to M). shortcut_norm: see `X3DBlock`.
    The attribute `channels` is that of the output maps.
    """

    def __init__(self, width: float = 2.0, depth: float = 2.2, shortcut_norm: bool = False) -> None:
        super().__init__()
        stem = round(BASE * width)
        self.stem = nn.Sequential(
            flat_conv(3, stem, 3, 2),
            nn.Conv3d(stem, stem, (5, 1, 1), padding=(2, 0, 0), groups=stem, bias=False),
            nn.BatchNorm3d(stem),
            nn.ReLU(inplace=True),
        )
        widths = [stem, *(stem * 2**number for number in range(4))]
        counts = [math.ceil(depth * blocks) for blocks in BLOCKS]
        self.res2, self.res3, self.res4, self.res5 = (
            _stage(*stage, shortcut_norm) for stage in zip(widths[:-1], widths[1:], counts, strict=True)
        )
        self.channels = int(EXPAND * widths[-1])
        self.last = nn.Sequential(
            nn.Conv3d(widths[-1], self.channels, 1, bias=False),
            nn.BatchNorm3d(self.channels),
            nn.ReLU(inplace=True),
        )
        init_weights(self)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, channels, T, H/32, W/32)."""
        x = self.res3(self.res2(self.stem(clip)))
        return self.last(self.res5(self.res4(x)))


def _stage(channels: int, out: int, count: int, shortcut_norm: bool) -> nn.Sequential:
    """Build one stage of `count` blocks, the first with stride 2."""
    first = X3DBlock(channels, out, 2, True, shortcut_norm)
    return nn.Sequential(first, *(X3DBlock(out, out, 1, i % 2 == 0, shortcut_norm) for i in range(1, count)))
