"""MobileNetV2, and the network of inverted residual blocks that EfficientNet-Lite shares with it.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2. Temporal
modules are placed in front of the first 1x1 of the blocks that have an expansion and a shortcut (ten of
seventeen), as in the TSM release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from foveate.backbones.parts import ConvNorm, Stage, TemporalSlot, init_convolutions, no_slot, rounded
from foveate.clip import IMAGENET_MEAN, IMAGENET_STD
from foveate.layers.temporal import StreamMemory

Conv = Callable[..., ConvNorm]
StageRow = tuple[int, int, int, int, int]  # expansion, channels, blocks, stride of the first block, kernel

STAGES: tuple[StageRow, ...] = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; a shortcut where the shape is kept."""

    def __init__(
        self, channels: int, out_channels: int, stride: int, expansion: int, kernel: int, conv: Conv
    ) -> None:
        super().__init__()
        inner = channels * expansion
        self.shortcut = stride == 1 and channels == out_channels
        self.temporal: nn.Module | None = None
        self.expand = conv(channels, inner) if expansion != 1 else None
        self.depthwise = conv(inner, inner, kernel, stride, groups=inner)
        self.project = conv(inner, out_channels, linear=True)

    def forward(self, x: Tensor, num_frames: int, memory: StreamMemory | None) -> Tensor:
        out = x if self.temporal is None else self.temporal(x, num_frames, memory)
        if self.expand is not None:
            out = self.expand(out)
        out = self.project(self.depthwise(out))
        return x + out if self.shortcut else out


class InvertedResidualNet(nn.Module):
    """A stem, stages of inverted residual blocks and a last 1x1, on frames folded into the batch.

    first, last: channels of the stem and of the last 1x1. slot: builds temporal modules. conv: builds each
    convolution with its norm and activation. inputs: channels of an image.
    """

    def __init__(
        self,
        first: int,
        stages: Sequence[StageRow],
        last: int,
        slot: TemporalSlot,
        conv: Conv = ConvNorm,
        inputs: int = 3,
    ) -> None:
        super().__init__()
        self.stem = conv(inputs, first, 3, 2)
        channels = first
        built: list[Stage] = []
        for number, (expansion, out_channels, count, stride, kernel) in enumerate(stages, start=1):
            built.append(Stage())
            for index in range(count):
                block_stride = stride if index == 0 else 1
                block = InvertedResidual(channels, out_channels, block_stride, expansion, kernel, conv)
                if block.shortcut and block.expand is not None:
                    block.temporal = slot(number, index, channels)
                built[-1].append(block)
                channels = out_channels
        self.stages = tuple(built)  # a tuple, because the blocks are registered below
        self.blocks = nn.ModuleList(block for stage in built for block in stage)
        self.channels = last
        self.last = conv(channels, last)
        init_convolutions(self)

    def forward(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*T, inputs, H, W). Returns maps (B*T, channels, ceil(H/32), ceil(W/32))."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x, num_frames, memory)
        return self.last(x)


class MobileNetV2(InvertedResidualNet):
    """MobileNetV2 on frames folded into the batch.

    width: multiplier of all channels; the last layer keeps 1280 channels if it is below 1.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, width: float = 1.0, slot: TemporalSlot = no_slot, inputs: int = 3) -> None:
        stages = [(row[0], rounded(row[1] * width), *row[2:]) for row in STAGES]
        super().__init__(rounded(32 * width), stages, rounded(1280 * max(1.0, width)), slot, inputs=inputs)
