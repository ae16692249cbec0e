"""bLResNet: a deep branch at half resolution beside a thin one at full resolution; bLVNet for frame pairs.

Chen et al., "Big-Little Net: An Efficient Multi-Scale Feature Representation for Visual and Speech
Recognition", ICLR 2019 (arXiv 1807.03848), sections 3 and 4.1. The big branch of a stage starts with a stride
of 2, the little one has 1 / alpha of its channels and 1 / beta of its depth; their outputs are added at the
little branch's resolution. Depth 26 was never released: two blocks per stage are our reading of its name.

`PairBLResNet` is the network of bLVNet (Fan et al., "More Is Less", NeurIPS 2019, arXiv 1912.00869, section
3.1): the big branch reads one frame of each pair, the little branch the other. The released code writes the
merged map of a pair back to both of its frames, so that stages and temporal modules run on all frames; here
each pair has one map, and the temporal module computes what it would give for either frame
(`TemporalAggregation.split_pairs`). The results are the same.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.backbones.parts import Stage, TemporalSlot, init_convolutions, no_slot
from foveate.clip import IMAGENET_MEAN, IMAGENET_STD
from foveate.errors import UsageError
from foveate.layers.aggregate import TemporalAggregation
from foveate.layers.temporal import StreamMemory

BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (4, 8, 18, 3), 152: (5, 12, 30, 3)}  # L of stages 1 to 4


class BigLittleBlock(nn.Module):
    """Bottleneck block; the shortcut is average-pooled (3x3) where it is strided, then projected.

    temporal: module whose output feeds the residual branch, and the shortcut too if that has a projection.
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
        fit: list[nn.Module] = [nn.AvgPool2d(3, 2, 1)] if stride == 2 else []  # averages the zero padding too
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
    """A 7x7 convolution with stride 2, shared by both branches, and a first, shallow pair of branches."""

    def __init__(self, width: int, alpha: int, inputs: int = 3) -> None:
        super().__init__()
        thin = width // alpha
        self.conv1 = nn.Conv2d(inputs, width, 7, 2, 3, bias=False)
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
        """(N, inputs, H, W) to (N, width, H/2, W/2)."""
        x: Tensor = self.relu(self.bn1(self.conv1(images)))
        return x

    def merge(self, little: Tensor, big: Tensor) -> Tensor:
        """Run the branches on their inputs (N, width, H/2, W/2) and merge them to (N, width, H/4, W/4)."""
        big = self.bn_b0(self.b_conv0(big))
        little = self.relu(self.bn_l0(self.l_conv0(little)))
        little = self.relu(self.bn_l1(self.l_conv1(little)))
        little = self.bn_l2(self.l_conv2(little))
        x: Tensor = self.relu(self.bn_bl_init(self.bl_init(self.relu(big + little))))
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Both branches on every image: (N, inputs, H, W) to (N, width, H/4, W/4)."""
        x = self.shared(images)
        return self.merge(x, x)


class BigLittleStage(nn.Module):
    """One stage: both branches, their sum, and a block that fuses it.

    blocks: L of the paper. stride: of the fusing block. temporal: module in front of both branches.
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
        """Run the branches on their inputs (N, C, H, W), merge: (N, out_channels, H/stride, W/stride)."""
        little = self.little_e(self.little(little))
        big = F.interpolate(self.big(big), little.shape[-2:])  # nearest; sides may not be even
        fused: Tensor = self.fusion(F.relu(big + little, inplace=True))
        return fused

    def forward(self, x: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        """Both branches on every image. x: (B*T, channels, H, W)."""
        x = x if self.temporal is None else self.temporal(x, num_frames, memory)
        return self.merge(x, x)


class BLResNet(nn.Module):
    """bLResNet on images, or on frames folded into the batch.

    depth: 26, 50, 101 or 152. alpha, beta: divisors of the little branch's channels and depth. width:
    channels of the stem (64 in the paper). slot: builds the temporal module in front of stages 1 to 3 and of
    each block of stage 4; see `TemporalSlot`. inputs: channels of an image.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(
        self,
        depth: int,
        alpha: int = 2,
        beta: int = 4,
        width: int = 64,
        slot: TemporalSlot = no_slot,
        inputs: int = 3,
    ) -> None:
        super().__init__()
        if min(alpha, beta) < 1 or width < 1 or width % alpha:
            raise ValueError(f"alpha {alpha} does not divide a width of {width} channels, or beta is below 1")
        blocks, widths = BLOCKS[depth], (width, 4 * width, 8 * width, 16 * width, 32 * width)
        self.channels = widths[4]
        self.stem = BigLittleStem(width, alpha, inputs)
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
        self.last = nn.Identity()  # other networks have a convolution after their stages
        init_convolutions(self)
        for module in self.modules():
            if isinstance(module, BigLittleBlock):
                nn.init.zeros_(module.bn3.weight)  # a new block computes its shortcut

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The four stages, in order."""
        return (self.layer1, self.layer2, self.layer3, self.layer4)

    def forward(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*T, inputs, H, W). Returns maps (B*T, channels, H/32, W/32)."""
        x: Tensor = self.stem(images)
        for stage in self.stages:
            x = stage(x, num_frames, memory)
        return x


class PairBLResNet(BLResNet):
    """bLResNet on pairs of frames folded into the batch, with one map per pair (bLVNet).

    Frames 0, 2, 4 .. go to the little branch, frames 1, 3, 5 .. to the big one. slot: as for `BLResNet`, and
    once more inside the stem (stage 0); it has to build `TemporalAggregation`s or nothing.
    """

    def __init__(
        self,
        depth: int,
        alpha: int = 2,
        beta: int = 4,
        width: int = 64,
        slot: TemporalSlot = no_slot,
        inputs: int = 3,
    ) -> None:
        super().__init__(depth, alpha, beta, width, slot, inputs)
        self.temporal = slot(0, 0, width)

    def forward(self, images: Tensor, num_frames: int = 2, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*2K, inputs, H, W). Returns maps (B*K, channels, H/32, W/32). UsageError if not even."""
        if num_frames % 2 or not num_frames:
            raise UsageError(
                "bLVNet", f"{num_frames} frames do not form pairs", "give an even number of frames"
            )
        pairs = num_frames // 2
        x = self.stem.shared(images)
        x = x if self.temporal is None else self.temporal(x, num_frames, memory)
        little, big = x.unflatten(0, (-1, 2)).unbind(1)
        x = self.stem.merge(little, big)  # (B*K, width, H/4, W/4)
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage.merge(*_branch_inputs(stage.temporal, x, pairs))
        maps: Tensor = self.layer4(x, pairs, memory)
        return maps


def _branch_inputs(temporal: nn.Module | None, maps: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
    """The inputs of the little and of the big branch for each pair. maps: (B*K, C, H, W)."""
    if temporal is None:
        return maps, maps
    assert isinstance(temporal, TemporalAggregation)
    return temporal.split_pairs(maps, num_pairs)
