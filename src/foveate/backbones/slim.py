"""A ResNet that runs at several widths with one set of kernels (layers/slim.py)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from foveate.backbones.build import Stem
from foveate.backbones.resnet2d import BLOCKS, ResNet2D
from foveate.layers.slim import make_slim
from foveate.layers.temporal import StreamMemory


class SlimResNet(ResNet2D):
    """A ResNet at `widths`, shares of its channels; its first channels are a narrower ResNet.

    widths: increasing, the last is 1. multiplier: of the channels at full width, as `build_backbone` has it;
    at width w the network has the layers that it builds for `multiplier * w`. ValueError for a backbone that
    is no ResNet, or widths that come to the same channels.
    """

    def __init__(self, name: str, multiplier: float, stem: Stem, widths: Sequence[float]) -> None:
        depth = int(name.removeprefix("resnet")) if name.startswith("resnet") else 0
        if depth not in BLOCKS:
            raise ValueError(f"the local network at several widths is a ResNet, not {name}")
        first = [max(1, round(64 * multiplier * width)) for width in widths]
        if len({*first}) < len(first):
            raise ValueError(f"widths {[*widths]} of the local network come to {first} channels")
        super().__init__(depth, first[-1], stem)
        make_slim(self, first)
        self.first = dict(zip(widths, first, strict=True))  # channels of the stem by width

    def forward(
        self,
        images: Tensor,
        num_frames: int = 1,
        memory: StreamMemory | None = None,
        width: float = 1.0,
    ) -> Tensor:
        """images: (N, 3, H, W). Returns maps of the first `width * channels` channels."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images, self.first[width]))))
        for stage in self.stages:
            x = stage(x, num_frames, memory)
        return x
