"""3D ResNet of one pathway; C2D, I3D, Slow and Fast differ in their temporal kernel sizes.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, table 1: convolutions
are 1 x k x k or t x 1 x 1, time is never strided, and the stride of a stage is on the 3x3 of its first
block. C2D and I3D follow Wang et al., "Non-local Neural Networks", CVPR 2018, table 1. Depth 10 and the small
stem are our own, for images of 48 to 112 pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

from torch import Tensor, nn

from foveate.backbones.build import Stem
from foveate.backbones.parts import TemporalSlot, init_convolutions, no_slot
from foveate.backbones.resnet2d import BLOCKS
from foveate.layers.fold import fold_time, unfold_time
from foveate.layers.nonlocal_block import Attention, NonLocal3D

Pathway = Literal["slow", "fast", "c2d", "i3d"]
Depth = Literal[10, 18, 50, 101]


@dataclass(frozen=True)
class Kernels:
    """Temporal kernel sizes of a pathway, in frames.

    stem: of the first convolution. stages: of the first convolution of each block of res2 to res5, a pattern
    that repeats over the blocks of its stage.
    """

    stem: int
    stages: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]


KERNELS: dict[Pathway, Kernels] = {
    "slow": Kernels(1, ((1,), (1,), (3,), (3,))),
    "fast": Kernels(5, ((3,), (3,), (3,), (3,))),
    "c2d": Kernels(1, ((1,), (1,), (1,), (1,))),
    "i3d": Kernels(5, ((3,), (3, 1), (3, 1), (1, 3))),
}

# blocks (from 0) of res2 to res5 after which the published networks have a non-local block, by depth
NONLOCAL_AFTER: dict[int, tuple[Collection[int], ...]] = {
    50: ((), (1, 3), (1, 3, 5), ()),
    101: ((), (), (6, 13, 20), ()),
}


class Block3D(nn.Module):
    """Base of the residual blocks on (B, C, T, H, W).

    temporal: module of a 2D network in front of the residual branch. after: a non-local block after the sum.
    """

    expansion: int

    def __init__(
        self, channels: int, out_channels: int, stride: int, temporal: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.temporal = temporal
        self.after: NonLocal3D | None = None
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != out_channels:
            conv = nn.Conv3d(channels, out_channels, 1, (1, stride, stride), bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm3d(out_channels))

    def branch(self, x: Tensor) -> Tensor:
        """The residual branch, before the sum."""
        raise TypeError("Block3D is abstract: use BasicBlock3D or Bottleneck3D")

    @property
    def last_norm(self) -> nn.BatchNorm3d:
        """The last norm of the residual branch; with its weight at 0 the block is the identity."""
        raise TypeError("Block3D is abstract: use BasicBlock3D or Bottleneck3D")

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.temporal is not None:  # works on frames folded into the batch
            x = unfold_time(self.temporal(fold_time(x), x.shape[2]), x.shape[2])
        x = self.relu(self.branch(x) + shortcut)
        return x if self.after is None else self.after(x)


class BasicBlock3D(Block3D):
    """Convolutions (t, 3, 3) and (1, 3, 3)."""

    expansion = 1

    def __init__(
        self, channels: int, width: int, stride: int, time: int, temporal: nn.Module | None = None
    ) -> None:
        super().__init__(channels, width, stride, temporal)
        self.conv1 = flat_conv(channels, width, 3, stride, time)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = flat_conv(width, width, 3)
        self.bn2 = nn.BatchNorm3d(width)

    def branch(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    @property
    def last_norm(self) -> nn.BatchNorm3d:
        return self.bn2


class Bottleneck3D(Block3D):
    """Convolutions (t, 1, 1) to `width`, (1, 3, 3), and (1, 1, 1) to four times `width`."""

    expansion = 4

    def __init__(
        self, channels: int, width: int, stride: int, time: int, temporal: nn.Module | None = None
    ) -> None:
        super().__init__(channels, 4 * width, stride, temporal)
        self.conv1 = flat_conv(channels, width, 1, time=time)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = flat_conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = flat_conv(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm3d(4 * width)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))

    @property
    def last_norm(self) -> nn.BatchNorm3d:
        return self.bn3


def flat_conv(channels: int, out_channels: int, side: int, stride: int = 1, time: int = 1) -> nn.Conv3d:
    """A (time, side, side) convolution without bias; padded, so that only `stride` reduces the resolution."""
    kernel, padding = (time, side, side), (time // 2, side // 2, side // 2)
    return nn.Conv3d(channels, out_channels, kernel, (1, stride, stride), padding, bias=False)


class Stem3D(nn.Module):
    """7x7 with stride 2 and a max pool ("large"), or 3x3 with stride 2 ("small"); kernel of `time` frames."""

    def __init__(self, in_channels: int, width: int, time: int, size: Stem) -> None:
        super().__init__()
        self.conv = flat_conv(in_channels, width, 7 if size == "large" else 3, 2, time)
        self.bn = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        large = size == "large"
        self.pool: nn.Module = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if large else nn.Identity()

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, width, T, H/4, W/4); H/2, W/2 with the small stem."""
        return self.pool(self.relu(self.bn(self.conv(clip))))


class ResNet3D(nn.Module):
    """A 3D ResNet with the temporal kernels of one pathway.

    width: channels of the stem (64 in the paper).
    fused: channels that lateral connections concatenate to the inputs of res2 to res5.
    temporal_res4: number of blocks of res4 that keep their temporal kernel; None keeps all.
    pool_time: halve the number of frames after res2 by a max pool (C2D and I3D).
    non_local: add the non-local blocks of the published networks with this attention; None adds none.
    slot: builds the temporal modules of a 2D network in front of each block; see `TemporalSlot`.
    """

    def __init__(
        self,
        pathway: Pathway,
        depth: Depth,
        width: int = 64,
        in_channels: int = 3,
        stem: Stem = "large",
        fused: Sequence[int] = (0, 0, 0, 0),
        temporal_res4: int | None = None,
        pool_time: bool = False,
        non_local: Attention | None = None,
        slot: TemporalSlot = no_slot,
    ) -> None:
        super().__init__()
        kernels = KERNELS[pathway]
        limits = (None, None, temporal_res4, None)
        times = [_times(*row) for row in zip(kernels.stages, BLOCKS[depth], limits, strict=True)]
        kind = BasicBlock3D if depth < 50 else Bottleneck3D
        self.stem = Stem3D(in_channels, width, kernels.stem, stem)
        ins = [width, *(width * kind.expansion * 2**stage for stage in range(3))]
        self.stage_channels = tuple(ins)  # channels of the outputs of the stem and res2 to res4
        self.res2, self.res3, self.res4, self.res5 = (
            _stage(kind, number, channels + added, width * 2 ** (number - 1), own_times, slot)
            for number, (channels, added, own_times) in enumerate(zip(ins, fused, times, strict=True), 1)
        )
        self.channels = 8 * width * kind.expansion
        self.pool_time = pool_time
        if non_local is not None:
            self._add_nonlocal(depth, non_local)
        init_weights(self)

    @property
    def stages(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        """res2 to res5."""
        return (self.res2, self.res3, self.res4, self.res5)

    def _add_nonlocal(self, depth: Depth, attention: Attention) -> None:
        if depth not in NONLOCAL_AFTER:
            raise ValueError(f"non-local blocks are defined for depths 50 and 101, not for {depth}")
        for stage, places in zip(self.stages, NONLOCAL_AFTER[depth], strict=True):
            for place in places:
                block = stage.get_submodule(str(place))
                assert isinstance(block, Bottleneck3D)
                block.after = NonLocal3D(block.bn3.num_features, attention)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) to (B, channels, T', h, w); T' is T // 2 with a temporal pool, else T."""
        x = self.res2(self.stem(clip))
        if self.pool_time:
            x = nn.functional.max_pool3d(x, (2, 1, 1))
        return self.res5(self.res4(self.res3(x)))


def _times(pattern: Sequence[int], blocks: int, limit: int | None) -> list[int]:
    """The temporal kernel of each block: the pattern repeated, 1 from block `limit` on."""
    return [
        time if limit is None or i < limit else 1 for i, time in enumerate(islice(cycle(pattern), blocks))
    ]


def _stage(
    kind: type[BasicBlock3D] | type[Bottleneck3D],
    number: int,
    channels: int,
    width: int,
    times: Sequence[int],
    slot: TemporalSlot,
) -> nn.Sequential:
    """Build stage `number`, 1 to 4; all but the first halve the resolution in their first block."""
    blocks: list[nn.Module] = []
    for i, time in enumerate(times):
        stride = 2 if number > 1 and i == 0 else 1
        blocks.append(kind(channels, width, stride, time, slot(number, i, channels)))
        channels = width * kind.expansion
    return nn.Sequential(*blocks)


def init_weights(net: nn.Module) -> None:
    """Initialise a 3D network: `init_convolutions`, and zero weights for the last norm of each block.

    Every block then begins as the identity (Goyal et al., "Accurate, Large Minibatch SGD", 2017), without
    which training at the published learning rate of 0.1 fails.
    """
    init_convolutions(net)
    for module in net.modules():
        if isinstance(module, Block3D):
            nn.init.zeros_(module.last_norm.weight)
