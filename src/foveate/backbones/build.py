"""Build any 2D backbone by name; all of them have the interface `FrameNet`."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, Protocol

from torch import Tensor

from foveate.backbones.blresnet import BLResNet
from foveate.backbones.efficientnet_lite import EfficientNetLite
from foveate.backbones.mobilenetv2 import MobileNetV2
from foveate.backbones.parts import TemporalSlot, no_slot
from foveate.backbones.resnet2d import ResNet2D, Strides
from foveate.layers.temporal import StreamMemory

Backbone2D = Literal[
    "resnet10", "resnet18", "resnet34", "resnet50", "resnet101",
    "mobilenetv2",
    "blresnet26", "blresnet50", "blresnet101", "blresnet152",
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2",
    "efficientnet_lite3", "efficientnet_lite4",
]  # fmt: skip
Stem = Literal["large", "small"]
STRIDES: Strides = (1, 2, 2, 2)


class FrameNet(Protocol):
    """Interface of a 2D backbone on frames folded into the batch.

    (B*T, inputs, H, W) to maps (B*T', channels, h, w); T' is below T in networks that pool time. mean,
    std: by which its public weights want RGB values in [0, 1] normalised.
    """

    channels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor, num_frames: int = 1, memory: StreamMemory | None = None) -> Tensor: ...


StagedNet = ResNet2D | MobileNetV2 | EfficientNetLite | BLResNet
"""Backbones that can be cut in two: `stem` and the first `stages`, then the other stages and `last`."""


def build_backbone(
    name: Backbone2D,
    width: float = 1.0,
    stem: Stem = "large",
    slot: TemporalSlot = no_slot,
    shift_shortcut: bool = False,
    pool_after: Collection[int] = (),
    strides: Strides = STRIDES,
    pool_time: Literal["max", "average"] = "max",
    alpha: int = 2,
    beta: int = 4,
    inputs: int = 3,
) -> StagedNet:
    """Build an untrained backbone. ValueError for an option that this backbone does not have.

    width: multiplier of the channels (not for EfficientNet-Lite). slot: builds temporal modules inside the
    network. alpha, beta: divisors of the little branch's channels and depth (bLResNets only). inputs:
    channels of an image. stem, shift_shortcut, pool_after, strides, pool_time: see `ResNet2D` (ResNets only).
    """
    if (alpha, beta) != (2, 4) and not name.startswith("blresnet"):
        raise ValueError(f"alpha and beta are for bLResNets, not {name}")
    if not {*pool_after} <= {1, 2, 3, 4}:
        raise ValueError(f"temporal pool after stages {list(pool_after)}; the stages are 1 to 4")
    if name.startswith("resnet"):
        depth = int(name.removeprefix("resnet"))
        channels = max(1, round(64 * width))
        return ResNet2D(depth, channels, stem, slot, shift_shortcut, pool_after, strides, pool_time, inputs)
    if stem != "large" or shift_shortcut or pool_after or strides != STRIDES:
        raise ValueError(
            f"stem, strides, temporal pool and a shift on the shortcut are for ResNets, not {name}"
        )
    if name == "mobilenetv2":
        return MobileNetV2(width, slot, inputs)
    if name.startswith("blresnet"):
        depth = int(name.removeprefix("blresnet"))
        return BLResNet(depth, alpha, beta, max(1, round(64 * width)), slot, inputs)
    if width != 1:
        raise ValueError("EfficientNet-Lite sets its own width: choose another size instead")
    return EfficientNetLite(int(name[-1]), slot, inputs)


def map_side(image: int, stem: Stem = "large", strides: Strides = STRIDES) -> int:
    """Side of a backbone's last feature map for square images of `image` pixels."""
    return math.ceil(image / ((4 if stem == "large" else 2) * math.prod(strides)))
