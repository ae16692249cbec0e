"""MobileNetV2: thin ends, wide middles, depthwise convolutions between.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2. The temporal
slot stands in front of the first 1x1 of the blocks that have an expansion and a shortcut (ten of
seventeen), as in the TSM release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from foveate.backbones.parts import ConvNorm, Stage, TemporalSlot, init_convolutions, no_slot, rounded
from foveate.clip import IMAGENET_MEAN, IMAGENET_STD
from foveate.layers.temporal import StreamMemory

Conv = Callable[..., ConvNorm]
StageRow = tuple[int, int, int, int, int]  # expansion, channels, blocks, stride of the first, kernel

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
    """Expand by 1x1, filter depthwise, project by a linear 1x1; a shortcut where the shape allows."""

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
    """A convolution, stages of inverted residuals and a 1x1, over frames folded into the batch.

    first, last: channels of the two convolutions around the stages. conv: makes all of them.
    """

    def __init__(
        self, first: int, stages: Sequence[StageRow], last: int, slot: TemporalSlot, conv: Conv = ConvNorm
    ) -> None:
        super().__init__()
        self.stem = conv(3, first, 3, 2)
        channels = first
        made: list[Stage] = []
        for number, (expansion, out_channels, count, stride, kernel) in enumerate(stages, start=1):
            made.append(Stage())
            for index in range(count):
                own = stride if index == 0 else 1
                block = InvertedResidual(channels, out_channels, own, expansion, kernel, conv)
                if block.shortcut and block.expand is not None:
                    block.temporal = slot(number, index, channels)
                made[-1].append(block)
                channels = out_channels
        self.stages = tuple(made)  # a tuple, as blocks have names of their own
        self.blocks = nn.ModuleList(block for stage in made for block in stage)
        self.channels = last
        self.last = conv(channels, last)
        init_convolutions(self)

    def forward(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*T, 3, H, W). Returns maps (B*T, channels, ceil(H/32), ceil(W/32))."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x, num_frames, memory)
        return self.last(x)


class MobileNetV2(InvertedResidualNet):
    """MobileNetV2: all filters are 3x3.

    width: multiplier of every channel count; the last layer keeps 1280 channels when width is 1 or less.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, width: float = 1.0, slot: TemporalSlot = no_slot) -> None:
        stages = [(row[0], rounded(row[1] * width), *row[2:]) for row in STAGES]
        super().__init__(rounded(32 * width), stages, rounded(1280 * max(1.0, width)), slot)
