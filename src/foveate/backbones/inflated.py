"""A ResNet whose every 3x3 looks at three frames: I3D as IBM's action-recognition-pytorch builds it.

Chen et al., "Deep Analysis of CNN-based Spatio-temporal Representations for Action Recognition", CVPR 2021,
after Carreira and Zisserman's inflation (CVPR 2017). Unlike the I3D of the SlowFast family, which filters
time in the 1x1 of some blocks, all 3x3 become 3x3x3 here, the 1x1 stay flat, and time may be strided.
"""

from __future__ import annotations

from torch import Tensor, nn

from foveate.backbones.parts import init_convolutions
from foveate.backbones.resnet2d import BLOCKS
from foveate.clip import IMAGENET_MEAN, IMAGENET_STD
from foveate.layers.fold import fold_time, unfold_time
from foveate.layers.temporal import StreamMemory

Stride3D = tuple[int, int, int]


def conv3(channels: int, out_channels: int, stride: Stride3D = (1, 1, 1)) -> nn.Conv3d:
    """Three frames, three rows, three columns."""
    return nn.Conv3d(channels, out_channels, 3, stride, 1, bias=False)


def conv1(channels: int, out_channels: int, stride: Stride3D = (1, 1, 1)) -> nn.Conv3d:
    """One place of one frame."""
    return nn.Conv3d(channels, out_channels, 1, stride, bias=False)


class InflatedBlock(nn.Module):
    """The residual units of ResNet (two 3x3x3, or a 3x3x3 between two 1x1x1) on (B, C, T, H, W)."""

    def __init__(self, channels: int, width: int, stride: Stride3D, bottleneck: bool) -> None:
        super().__init__()
        out_channels = 4 * width if bottleneck else width
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = conv1(channels, width) if bottleneck else conv3(channels, width, stride)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = conv3(width, width, stride if bottleneck else (1, 1, 1))
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = conv1(width, out_channels) if bottleneck else None
        self.bn3 = nn.BatchNorm3d(out_channels) if bottleneck else None
        self.downsample: nn.Sequential | None = None
        if stride != (1, 1, 1) or channels != out_channels:
            self.downsample = nn.Sequential(
                conv1(channels, out_channels, stride), nn.BatchNorm3d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.conv3 is not None and self.bn3 is not None:
            x = self.bn3(self.conv3(self.relu(x)))
        out: Tensor = self.relu(x + shortcut)
        return out


class InflatedResNet(nn.Module):
    """A 3D ResNet in the place of a network over frames folded into the batch.

    time_stride: stages 2 to 4 halve the frames, each with the stride of its first block.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, depth: int, width: int = 64, time_stride: bool = False) -> None:
        super().__init__()
        bottleneck = depth >= 50
        self.conv1 = nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.channels = width
        stages = []
        for number, blocks in enumerate(BLOCKS[depth]):
            first = (1, 1, 1) if number == 0 else (2 if time_stride else 1, 2, 2)
            stages.append(nn.Sequential())
            for block in range(blocks):
                stride = (1, 1, 1) if block else first
                stages[-1].append(InflatedBlock(self.channels, width << number, stride, bottleneck))
                self.channels = (width << number) * (4 if bottleneck else 1)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        init_convolutions(self)

    def forward(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*T, 3, H, W). Returns maps (B*T', channels, H/32, W/32). A stream raises ValueError."""
        if memory is not None:
            raise ValueError("a 3D network needs the next frame; streaming wants a network of single frames")
        x = unfold_time(images, num_frames)  # (B, 3, T, H, W)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return fold_time(x)
