"""2D ResNet on frames, with an optional temporal module in front of every block's first convolution.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1, with the stride on the 3x3
convolution of a bottleneck as in all public weights. Depth 10 (one basic block per stage) and the small
stem (3x3, stride 2, no pool) are our own, for images of 48 to 112 pixels.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.backbones.parts import Stage, TemporalSlot, init_convolutions, no_slot
from foveate.clip import IMAGENET_MEAN, IMAGENET_STD
from foveate.layers.nonlocal_block import NonLocal
from foveate.layers.temporal import StreamMemory, TemporalPool

BLOCKS = {  # depth: blocks of stages 1 to 4
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}


Strides = tuple[int, int, int, int]


class NarrowProjection(nn.Conv2d):
    """A strided 1x1 convolution without bias, computed by subsampling the input first: the same result.

    Works around a memory error in PyTorch 2.13 on CPUs: with fewer than 16 channels, channels last, it writes
    past the end of this weight's gradient (with several threads for most odd numbers of images, on 56x56 maps
    for any number).
    """

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight)


class Block(nn.Module):
    """Base of the residual blocks.

    temporal: module in front of the residual branch. shift_shortcut: it feeds the shortcut as well.
    """

    expansion: int

    def __init__(
        self, channels: int, out_channels: int, stride: int, temporal: nn.Module | None, shift_shortcut: bool
    ):
        super().__init__()
        self.temporal = temporal
        self.shift_shortcut = shift_shortcut
        self.relu = nn.ReLU(inplace=True)
        self.after: NonLocal | None = None
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != out_channels:
            conv = nn.Conv2d if channels >= 16 else NarrowProjection
            self.downsample = nn.Sequential(
                conv(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def branch(self, x: Tensor) -> Tensor:
        """The residual branch, before the sum."""
        raise TypeError("Block is abstract: use BasicBlock or Bottleneck")

    def forward(self, x: Tensor, num_frames: int, memory: StreamMemory | None) -> Tensor:
        moved = x if self.temporal is None else self.temporal(x, num_frames, memory)
        shortcut = moved if self.shift_shortcut else x
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        x = self.relu(self.branch(moved) + shortcut)
        return x if self.after is None else self.after(x, num_frames)


class BasicBlock(Block):
    """Two 3x3 convolutions (ResNet-18 and 34)."""

    expansion = 1

    def __init__(
        self, channels: int, width: int, stride: int, temporal: nn.Module | None, shift_shortcut: bool
    ):
        super().__init__(channels, width, stride, temporal, shift_shortcut)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))


class Bottleneck(Block):
    """1x1 to `width`, 3x3, 1x1 to four times `width` (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(
        self, channels: int, width: int, stride: int, temporal: nn.Module | None, shift_shortcut: bool
    ):
        super().__init__(channels, 4 * width, stride, temporal, shift_shortcut)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class ResNet2D(nn.Module):
    """A ResNet on frames folded into the batch.

    depth: 10, 18, 34, 50 or 101. width: channels of the first stage (64 in the paper).
    stem: "large" is 7x7 with stride 2 and a max pool; "small" is 3x3 with stride 2.
    slot: builds the temporal module of each block; see `TemporalSlot`.
    shift_shortcut: temporal modules feed the shortcut of their block as well as its residual branch.
    pool_after: stages (1 to 4) after which a temporal pool halves the frames. pool_time: its method.
    strides: of the four stages; smaller ones keep more resolution for small images. inputs: channels of an
    image.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(
        self,
        depth: int,
        width: int = 64,
        stem: Literal["large", "small"] = "large",
        slot: TemporalSlot = no_slot,
        shift_shortcut: bool = False,
        pool_after: Collection[int] = (),
        strides: Strides = (1, 2, 2, 2),
        pool_time: Literal["max", "average"] = "max",
        inputs: int = 3,
    ) -> None:
        super().__init__()
        kernel = 7 if stem == "large" else 3
        self.conv1 = nn.Conv2d(inputs, width, kernel, 2, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "large" else nn.Identity()
        block = BasicBlock if depth < 50 else Bottleneck
        self.channels = width
        self.layer1 = self._stage(block, depth, 1, width, strides[0], slot, shift_shortcut)
        self.layer2 = self._stage(block, depth, 2, width * 2, strides[1], slot, shift_shortcut)
        self.layer3 = self._stage(block, depth, 3, width * 4, strides[2], slot, shift_shortcut)
        self.layer4 = self._stage(block, depth, 4, width * 8, strides[3], slot, shift_shortcut)
        self.last = nn.Identity()  # other networks have a convolution after their stages
        self.pool_after = frozenset(pool_after)
        self.temporal_pool = TemporalPool(pool_time)
        init_convolutions(self)

    def _stage(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depth: int,
        stage: int,
        width: int,
        first_stride: int,
        slot: TemporalSlot,
        shift_shortcut: bool,
    ) -> Stage:
        blocks = []
        for index in range(BLOCKS[depth][stage - 1]):
            stride = first_stride if index == 0 else 1
            blocks.append(
                block(self.channels, width, stride, slot(stage, index, self.channels), shift_shortcut)
            )
            self.channels = width * block.expansion
        return Stage(blocks)

    def stem(self, images: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H/4, W/4); H/2, W/2 with the small stem."""
        return self.maxpool(self.relu(self.bn1(self.conv1(images))))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The four stages, in order."""
        return (self.layer1, self.layer2, self.layer3, self.layer4)

    def forward(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*T, inputs, H, W). Returns maps (B*T', channels, h, w); T' < T after a temporal pool."""
        x = self.stem(images)
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x, num_frames, memory)
            if number in self.pool_after:
                x = self.temporal_pool(x, num_frames)
                num_frames = (num_frames + 1) // 2
        return x


def add_nonlocal(net: ResNet2D) -> None:
    """Add a non-local block after every second block of res3 and res4: five in TSM's ResNet-50."""
    for stage in (net.layer2, net.layer3):
        for block in list(stage)[::2]:
            assert isinstance(block, Bottleneck)
            block.after = NonLocal(block.bn3.num_features)
