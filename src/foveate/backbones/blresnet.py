"""bLResNet: a deep branch that sees half the resolution beside a thin one that sees all of it.

Chen et al., "Big-Little Net: An Efficient Multi-Scale Feature Representation for Visual and Speech
Recognition", ICLR 2019 (arXiv 1807.03848), sections 3 and 4.1. The big branch of a stage starts with a stride
of 2, the little one has 1 / alpha of its channels and 1 / beta of its depth; what they find is added at the
little one's size. Depth 26 was never released: two blocks a stage are our reading of its name.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.backbones.parts import Stage, TemporalSlot, init_convolutions, no_slot
from foveate.clip import IMAGENET_MEAN, IMAGENET_STD
from foveate.layers.temporal import StreamMemory

BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (4, 8, 18, 3), 152: (5, 12, 30, 3)}  # L of each stage


class BigLittleBlock(nn.Module):
    """Bottleneck of `out_channels`, a quarter inside; its shortcut averages 3x3 before it is projected.

    The temporal part feeds the branch, and the shortcut as well where that has something to learn.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        stride: int = 1,
        last_relu: bool = True,
        temporal: nn.Module | None = None,
    ) -> None:
        super().__init__()
        inner = out_channels // 4
        self.temporal = temporal
        self.last_relu = last_relu
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        fit: list[nn.Module] = [nn.AvgPool2d(3, 2, 1)] if stride == 2 else []  # the zeros around count
        if channels != out_channels:
            fit += [nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.downsample = nn.Sequential(*fit) if fit else None

    def forward(self, x: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        moved = x if self.temporal is None else self.temporal(x, num_frames, memory)
        shortcut = x if self.downsample is None else self.downsample(moved)
        x = self.relu(self.bn1(self.conv1(moved)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x)) + shortcut
        return self.relu(x) if self.last_relu else x


class BigLittleStem(nn.Module):
    """7x7 at stride 2, which both branches share, and a first, shallow pair of branches."""

    def __init__(self, width: int, alpha: int) -> None:
        super().__init__()
        thin = width // alpha
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.b_conv0 = nn.Conv2d(width, width, 3, 2, 1, bias=False)
        self.bn_b0 = nn.BatchNorm2d(width)
        self.l_conv0 = nn.Conv2d(width, thin, 3, 1, 1, bias=False)
        self.bn_l0 = nn.BatchNorm2d(thin)
        self.l_conv1 = nn.Conv2d(thin, thin, 3, 2, 1, bias=False)
        self.bn_l1 = nn.BatchNorm2d(thin)
        self.l_conv2 = nn.Conv2d(thin, width, 1, bias=False)
        self.bn_l2 = nn.BatchNorm2d(width)
        self.bl_init = nn.Conv2d(width, width, 1, bias=False)
        self.bn_bl_init = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def shared(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, width, H/2, W/2)."""
        x: Tensor = self.relu(self.bn1(self.conv1(images)))
        return x

    def merge(self, little: Tensor, big: Tensor) -> Tensor:
        """What each branch reads, (N, width, H/2, W/2), to (N, width, H/4, W/4)."""
        big = self.bn_b0(self.b_conv0(big))
        little = self.relu(self.bn_l0(self.l_conv0(little)))
        little = self.relu(self.bn_l1(self.l_conv1(little)))
        little = self.bn_l2(self.l_conv2(little))
        x: Tensor = self.relu(self.bn_bl_init(self.bl_init(self.relu(big + little))))
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Every image to both branches. (N, 3, H, W) to (N, width, H/4, W/4)."""
        x = self.shared(images)
        return self.merge(x, x)


class BigLittleStage(nn.Module):
    """Both branches of one resolution, their sum, and a block that fuses it. `temporal` feeds both.

    blocks: L of the paper. stride: of the block that fuses.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        blocks: int,
        stride: int,
        alpha: int,
        beta: int,
        temporal: nn.Module | None,
    ) -> None:
        super().__init__()
        self.temporal = temporal
        self.big = nn.Sequential(BigLittleBlock(channels, out_channels, 2, last_relu=blocks > 2))
        for place in range(1, blocks - 1):
            self.big.append(BigLittleBlock(out_channels, out_channels, last_relu=place < blocks - 2))
        thin = out_channels // alpha
        self.little = nn.Sequential(BigLittleBlock(channels, thin))
        for _ in range(1, blocks // beta - 1):
            self.little.append(BigLittleBlock(thin, thin))
        self.little_e = nn.Sequential(
            nn.Conv2d(thin, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.fusion = nn.Sequential(BigLittleBlock(out_channels, out_channels, stride))

    def merge(self, little: Tensor, big: Tensor) -> Tensor:
        """What each branch reads, (N, channels, H, W), to (N, out_channels, H/stride, W/stride)."""
        little = self.little_e(self.little(little))
        big = F.interpolate(self.big(big), little.shape[-2:])  # nearest; sides may not be even
        fused: Tensor = self.fusion(F.relu(big + little, inplace=True))
        return fused

    def forward(self, x: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        """Every image to both branches. x: (B*T, channels, H, W)."""
        x = x if self.temporal is None else self.temporal(x, num_frames, memory)
        return self.merge(x, x)


class BLResNet(nn.Module):
    """bLResNet over images, or frames folded into the batch.

    depth: 26, 50, 101 or 152. alpha, beta: what divides the little branch's channels and depth. width:
    channels of the stem (64 in the paper). slot: makes the temporal part in front of stages 1 to 3 and of
    each block of the last stage from (stage, block, channels).
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(
        self, depth: int, alpha: int = 2, beta: int = 4, width: int = 64, slot: TemporalSlot = no_slot
    ) -> None:
        super().__init__()
        if min(alpha, beta) < 1 or width < 1 or width % alpha:
            raise ValueError(f"alpha {alpha} does not divide a width of {width} channels, or beta is below 1")
        blocks, widths = BLOCKS[depth], (width, 4 * width, 8 * width, 16 * width, 32 * width)
        self.channels = widths[4]
        self.stem = BigLittleStem(width, alpha)
        merging = [
            BigLittleStage(
                widths[i], widths[i + 1], blocks[i], stride, alpha, beta, slot(i + 1, 0, widths[i])
            )
            for i, stride in enumerate((2, 2, 1))
        ]
        self.layer1, self.layer2, self.layer3 = merging
        first = BigLittleBlock(widths[3], widths[4], 2, temporal=slot(4, 0, widths[3]))
        self.layer4 = Stage([first])
        for block in range(1, blocks[3]):
            self.layer4.append(BigLittleBlock(widths[4], widths[4], temporal=slot(4, block, widths[4])))
        self.last = nn.Identity()  # what other networks have behind their stages
        init_convolutions(self)
        for module in self.modules():
            if isinstance(module, BigLittleBlock):
                nn.init.zeros_(module.bn3.weight)  # a new block is its shortcut

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return (self.layer1, self.layer2, self.layer3, self.layer4)

    def forward(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*T, 3, H, W). Returns maps (B*T, channels, H/32, W/32)."""
        x: Tensor = self.stem(images)
        for stage in self.stages:
            x = stage(x, num_frames, memory)
        return x
