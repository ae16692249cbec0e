"""Inflated ResNet: every 3x3 convolution becomes 3x3x3. I3D as in IBM's action-recognition-pytorch.

Chen et al., "Deep Analysis of CNN-based Spatio-temporal Representations for Action Recognition", CVPR 2021,
after Carreira and Zisserman (CVPR 2017). The I3D of the SlowFast family (resnet3d.py) is another network: it
inflates the 1x1 convolutions of some blocks instead and never strides time.
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
    """A 3x3x3 convolution without bias."""
    return nn.Conv3d(channels, out_channels, 3, stride, 1, bias=False)


def conv1(channels: int, out_channels: int, stride: Stride3D = (1, 1, 1)) -> nn.Conv3d:
    """A 1x1x1 convolution without bias."""
    return nn.Conv3d(channels, out_channels, 1, stride, bias=False)


class InflatedBlock(nn.Module):
    """Residual block on (B, C, T, H, W): two 3x3x3 convolutions, or one between two 1x1x1 (bottleneck)."""

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
    """A 3D ResNet with the interface of a 2D backbone (`FrameNet`): frames folded into the batch.

    depth: 10, 18, 34, 50 or 101. width: channels of the stem. time_stride: halve the number of frames in the
    first block of stages 2 to 4.
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
        """images: (B*T, 3, H, W). Returns maps (B*T', channels, H/32, W/32). ValueError in a stream."""
        if memory is not None:
            raise ValueError("a 3D network needs the next frame; to stream, use a 2D backbone")
        x = unfold_time(images, num_frames)  # (B, 3, T, H, W)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return fold_time(x)
