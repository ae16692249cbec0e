"""MobileNetV2: thin ends, wide middles, depthwise convolutions between.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2. The temporal
slot stands in front of the first 1x1 of the blocks that have an expansion and a shortcut (ten of
seventeen), as in the TSM release.
"""

from __future__ import annotations

from torch import Tensor, nn

from foveate.backbones.parts import ConvNorm, Stage, TemporalSlot, no_slot, rounded
from foveate.clip import IMAGENET_MEAN, IMAGENET_STD
from foveate.layers.temporal import StreamMemory

STAGES = (  # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter depthwise, project by a linear 1x1; a shortcut where the shape allows."""

    def __init__(self, channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.shortcut = stride == 1 and channels == out_channels
        self.temporal: nn.Module | None = None
        self.expand = ConvNorm(channels, inner) if expansion != 1 else None
        self.depthwise = ConvNorm(inner, inner, 3, stride, groups=inner)
        self.project = ConvNorm(inner, out_channels, linear=True)

    def forward(self, x: Tensor, num_frames: int, memory: StreamMemory | None) -> Tensor:
        out = x if self.temporal is None else self.temporal(x, num_frames, memory)
        if self.expand is not None:
            out = self.expand(out)
        out = self.project(self.depthwise(out))
        return x + out if self.shortcut else out


class MobileNetV2(nn.Module):
    """MobileNetV2 over frames folded into the batch.

    width: multiplier of every channel count; the last layer keeps 1280 channels when width is 1 or less.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, width: float = 1.0, slot: TemporalSlot = no_slot) -> None:
        super().__init__()
        channels = rounded(32 * width)
        self.stem = ConvNorm(3, channels, 3, 2)
        stages: list[Stage] = []
        for number, (expansion, base, count, stride) in enumerate(STAGES, start=1):
            stages.append(Stage())
            for index in range(count):
                block = InvertedResidual(
                    channels, rounded(base * width), stride if index == 0 else 1, expansion
                )
                if block.shortcut and block.expand is not None:
                    block.temporal = slot(number, index, channels)
                stages[-1].append(block)
                channels = rounded(base * width)
        self.stages = tuple(stages)  # a tuple, as blocks have names of their own
        self.blocks = nn.ModuleList(block for stage in stages for block in stage)
        self.channels = rounded(1280 * max(1.0, width))
        self.last = ConvNorm(channels, self.channels)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*T, 3, H, W). Returns maps (B*T, channels, H/32, W/32)."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x, num_frames, memory)
        return self.last(x)
