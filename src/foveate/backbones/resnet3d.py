"""A 3D ResNet of one pathway: C2D, I3D, Slow, Fast and their small relatives differ in a table of kernels.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, table 1: every convolution is flat
(1 x k x k) or thin (k x 1 x 1), time is never strided, and the stride of a stage is on the 3x3 of its first
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
    """Temporal extents of a pathway: of the stem, and of the first convolution of the blocks of res2 to res5.

    A shorter list repeats over the blocks of its stage.
    """

    stem: int
    stages: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]


KERNELS: dict[Pathway, Kernels] = {
    "slow": Kernels(1, ((1,), (1,), (3,), (3,))),
    "fast": Kernels(5, ((3,), (3,), (3,), (3,))),
    "c2d": Kernels(1, ((1,), (1,), (1,), (1,))),
    "i3d": Kernels(5, ((3,), (3, 1), (3, 1), (1, 3))),
}

# Blocks (from 0) of res2 to res5 behind which the published networks look at the whole clip.
NONLOCAL_AFTER: dict[int, tuple[Collection[int], ...]] = {
    50: ((), (1, 3), (1, 3, 5), ()),
    101: ((), (), (6, 13, 20), ()),
}


class Block3D(nn.Module):
    """A residual unit on (B, C, T, H, W). temporal feeds its branch; after: a non-local block behind it."""

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
        """The norm that closes the branch; at gamma 0 the block passes its input on."""
        raise TypeError("Block3D is abstract: use BasicBlock3D or Bottleneck3D")

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.temporal is not None:  # of a 2D network: on frames folded into the batch
            x = unfold_time(self.temporal(fold_time(x), x.shape[2]), x.shape[2])
        x = self.relu(self.branch(x) + shortcut)
        return x if self.after is None else self.after(x)


class BasicBlock3D(Block3D):
    """(t, 3, 3) and (1, 3, 3)."""

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
    """(t, 1, 1) to `width`, (1, 3, 3), (1, 1, 1) to four times `width`."""

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
    """A convolution (time, side, side) without bias that keeps the number of frames."""
    kernel, padding = (time, side, side), (time // 2, side // 2, side // 2)
    return nn.Conv3d(channels, out_channels, kernel, (1, stride, stride), padding, bias=False)


class Stem3D(nn.Module):
    """7x7 at stride 2 and a pool at stride 2, or 3x3 at stride 2 alone; `time` frames at once."""

    def __init__(self, in_channels: int, width: int, time: int, size: Stem) -> None:
        super().__init__()
        self.conv = flat_conv(in_channels, width, 7 if size == "large" else 3, 2, time)
        self.bn = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        large = size == "large"
        self.pool: nn.Module = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if large else nn.Identity()

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, width, T, H/4, W/4), or H/2 with the small stem."""
        return self.pool(self.relu(self.bn(self.conv(clip))))


class ResNet3D(nn.Module):
    """One pathway.

    width: channels of the stem (64 in the paper).
    fused: channels that lateral connections add in front of res2 to res5.
    thick_res4: blocks of res4 that keep their temporal kernel; None keeps all.
    pool_time: halve the frames behind res2 by a maximum (C2D and I3D).
    non_local: how the places of a clip are weighed; None is without such blocks.
    slot: makes the temporal part of a 2D network in front of each block from (stage, block, channels).
    """

    def __init__(
        self,
        pathway: Pathway,
        depth: Depth,
        width: int = 64,
        in_channels: int = 3,
        stem: Stem = "large",
        fused: Sequence[int] = (0, 0, 0, 0),
        thick_res4: int | None = None,
        pool_time: bool = False,
        non_local: Attention | None = None,
        slot: TemporalSlot = no_slot,
    ) -> None:
        super().__init__()
        kernels = KERNELS[pathway]
        limits = (None, None, thick_res4, None)
        times = [_times(*row) for row in zip(kernels.stages, BLOCKS[depth], limits, strict=True)]
        kind = BasicBlock3D if depth < 50 else Bottleneck3D
        self.stem = Stem3D(in_channels, width, kernels.stem, stem)
        ins = [width, *(width * kind.expansion * 2**stage for stage in range(3))]
        self.stage_channels = tuple(ins)  # what the stem and res2 to res4 give
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
        return (self.res2, self.res3, self.res4, self.res5)

    def _add_nonlocal(self, depth: Depth, attention: Attention) -> None:
        if depth not in NONLOCAL_AFTER:
            raise ValueError(f"non-local blocks have their places in depths 50 and 101, not in {depth}")
        for stage, places in zip(self.stages, NONLOCAL_AFTER[depth], strict=True):
            for place in places:
                block = stage.get_submodule(str(place))
                assert isinstance(block, Bottleneck3D)
                block.after = NonLocal3D(block.bn3.num_features, attention)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) to (B, channels, T', h, w); T' is T // 2 after a temporal pool."""
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
    """Stage `number`, from 1: all but the first halve the resolution in their first block."""
    blocks: list[nn.Module] = []
    for i, time in enumerate(times):
        stride = 2 if number > 1 and i == 0 else 1
        blocks.append(kind(channels, width, stride, time, slot(number, i, channels)))
        channels = width * kind.expansion
    return nn.Sequential(*blocks)


def init_weights(net: nn.Module) -> None:
    """As `init_convolutions`; the norm that closes a block starts at gamma 0 (Goyal et al.).

    So every block begins as the identity, without which the published rate of 0.1 does not train.
    """
    init_convolutions(net)
    for module in net.modules():
        if isinstance(module, Block3D):
            nn.init.zeros_(module.last_norm.weight)
