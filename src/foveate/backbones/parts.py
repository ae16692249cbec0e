"""Parts shared by the backbones: temporal slots, initialisation, convolution with norm and activation."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers.temporal import StreamMemory

TemporalSlot = Callable[[int, int, int], nn.Module | None]
"""A function (stage, block, channels) -> temporal module in front of a block's first convolution, or None.

stage counts from 1, block from 0; channels: of the block's input.
"""


def no_slot(stage: int, block: int, channels: int) -> None:
    """A slot without temporal modules: a purely spatial network."""


def init_convolutions(net: nn.Module) -> None:
    """Initialise all convolutions: He normal (fan-out) weights, zero biases."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Stage(nn.ModuleList):
    """The blocks of one stage, run in order; each is called as `block(x, num_frames, memory)`."""

    def forward(self, x: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        for block in self:
            x = block(x, num_frames, memory)
        return x


def rounded(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, at most 10 % down (MobileNetV2's rule for channel counts)."""
    result = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return result + divisor if result < 0.9 * channels else result


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: ceil(side / stride) outputs, more of it at the end."""

    def forward(self, input: Tensor) -> Tensor:
        pads = []
        for side, kernel, stride in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride, strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads) if any(pads) else input)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm and ReLU6.

    linear: no activation. same: TensorFlow's padding. norm: builds the norm from the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
        same: bool = False,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if same:
            self.conv: nn.Conv2d = SameConv2d(
                in_channels, out_channels, kernel, stride, groups=groups, bias=False
            )
        else:
            padding = kernel // 2
            self.conv = nn.Conv2d(
                in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False
            )
        self.norm = norm(out_channels)
        self.act = nn.Identity() if linear else nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))
