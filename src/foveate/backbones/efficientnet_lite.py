"""EfficientNet-Lite 0 to 4: EfficientNet without attention and with ReLU6, made for small processors.

Tan and Le, "EfficientNet", ICML 2019, table 1, with the changes of the Lite release: no
squeeze-and-excitation, ReLU6, and a stem, a last layer and a depth of the outer stages that do not grow.
Its public weights come with TensorFlow's padding and norm constants, and so does this network.
"""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor, nn

from foveate.backbones.parts import ConvNorm, Stage, TemporalSlot, no_slot, rounded
from foveate.layers.temporal import StreamMemory

STAGES = (  # expansion, channels, blocks, stride of the first, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
SCALES = (  # width, depth, side of the published input
    (1.0, 1.0, 224),
    (1.0, 1.1, 240),
    (1.1, 1.2, 260),
    (1.2, 1.4, 280),
    (1.4, 1.8, 300),
)


class LiteBlock(nn.Module):
    """Inverted residual with a 3x3 or 5x5 depthwise convolution."""

    def __init__(self, channels: int, out_channels: int, stride: int, expansion: int, kernel: int) -> None:
        super().__init__()
        conv = partial(ConvNorm, same=True, norm=_norm)
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


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite `size` (0 to 4) over frames folded into the batch."""

    mean, std = (0.498, 0.498, 0.498), (0.502, 0.502, 0.502)  # (pixel - 127) / 128

    def __init__(self, size: int = 0, slot: TemporalSlot = no_slot) -> None:
        super().__init__()
        width, depth, self.side = SCALES[size]
        channels = 32
        self.stem = ConvNorm(3, channels, 3, 2, same=True, norm=_norm)
        stages: list[Stage] = []
        for number, (expansion, base, count, stride, kernel) in enumerate(STAGES, start=1):
            outer = number in (1, len(STAGES))
            stages.append(Stage())
            for index in range(count if outer else math.ceil(count * depth)):
                out_channels = rounded(base * width)
                block = LiteBlock(channels, out_channels, stride if index == 0 else 1, expansion, kernel)
                if block.shortcut and block.expand is not None:
                    block.temporal = slot(number, index, channels)
                stages[-1].append(block)
                channels = out_channels
        self.stages = tuple(stages)  # a tuple, as blocks have names of their own
        self.blocks = nn.ModuleList(block for stage in stages for block in stage)
        self.channels = 1280
        self.last = ConvNorm(channels, self.channels, same=True, norm=_norm)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*T, 3, H, W). Returns maps (B*T, 1280, ceil(H/32), ceil(W/32))."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x, num_frames, memory)
        return self.last(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # TensorFlow's constants
