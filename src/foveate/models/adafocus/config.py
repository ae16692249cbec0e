"""The configuration that all models of the AdaFocus family have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.backbones.build import STRIDES, Backbone2D, FrameNet, Stem, build_backbone, map_side
from foveate.backbones.parts import TemporalSlot, no_slot
from foveate.backbones.resnet2d import Strides
from foveate.clip import ClipSpec, ShortPolicy


def check_sizes(size: int, resize: int, glance_size: int, patch: int) -> None:
    """ValueError for sides, in pixels, that make no model; see `FocusNetworks`."""
    if min(patch, glance_size) < 1:
        raise ValueError(f"patch {patch} and glance_size {glance_size} must be at least one pixel")
    if patch > size:
        raise ValueError(f"a patch of {patch} pixels does not fit into a frame of {size}")
    if glance_size > size:
        raise ValueError(f"the glance, {glance_size} pixels, is larger than the frame, {size}")
    if resize < size:
        raise ValueError(f"resize {resize} is smaller than the crop, size {size}")


def check_grid(grid: int, room: int) -> None:
    """ValueError for a grid that a patch, which can move by `room` pixels, cannot have."""
    if grid < 2:
        raise ValueError(f"a grid of {grid} x {grid} positions leaves nothing to choose")
    if grid > room + 1 > 1:
        raise ValueError(f"a grid of {grid} does not fit: a patch can move by {room} pixels only")


@dataclass(frozen=True)
class FocusNetworks:
    """Both 2D networks, and the sizes of what they see."""

    glance: Backbone2D = "mobilenetv2"  # f_G
    local: Backbone2D = "resnet50"  # f_L
    num_classes: int = 200
    size: int = 224  # S, side of the frame that patches are cut from, pixels
    resize: int = 256  # short side before the test crop, pixels
    glance_size: int = 224  # G, side of the frame that f_G sees, pixels
    patch: int = 128  # P, side of a patch, pixels
    dropout: float = 0.5  # in front of the classifier
    pool: Literal["average", "max"] = "average"  # over space, of both networks' maps
    glance_width: float = 1.0  # multiplier of the channels
    local_width: float = 1.0
    glance_stem: Stem = "large"  # of a ResNet: small for images of 48 to 112 pixels
    local_stem: Stem = "large"
    glance_strides: Strides = STRIDES  # of a ResNet's stages: smaller ones keep small things apart

    def __post_init__(self) -> None:
        check_sizes(self.size, self.resize, self.glance_size, self.patch)

    @property
    def room(self) -> int:
        """S - P, pixels that a patch can move."""
        return self.size - self.patch

    @property
    def glance_side(self) -> int:
        """Side of the glance's last map."""
        return map_side(self.glance_size, self.glance_stem, self.glance_strides)

    @property
    def glance_offset(self) -> int:
        """Pixels of the glance from the first one of a cell of its last map to the one it is centred on.

        Networks that halve with an odd kernel and equal padding centre a cell on its first pixel;
        EfficientNet-Lite, which pads behind the last, on its last.
        """
        behind = self.glance.startswith("efficientnet_lite")
        return self.glance_size // self.glance_side - 1 if behind else 0

    def clip_spec(self, frames: int, glance: FrameNet, short: ShortPolicy = "spread") -> ClipSpec:
        """Frames of equal parts of the video, as both networks want them."""
        size, resize = self.size, self.resize
        return ClipSpec(frames, size=size, resize=resize, mean=glance.mean, std=glance.std, short=short)

    def networks(
        self, glance_slot: TemporalSlot = no_slot, local_slot: TemporalSlot = no_slot
    ) -> tuple[FrameNet, FrameNet]:
        """The untrained f_G and f_L, with something between their blocks that lets frames see each other."""
        strides = self.glance_strides
        return (
            build_backbone(self.glance, self.glance_width, self.glance_stem, glance_slot, strides=strides),
            build_backbone(self.local, self.local_width, self.local_stem, local_slot),
        )


@dataclass(frozen=True)
class FocusConfig(FocusNetworks):
    """The fields of the models with one patch a frame, or one for the clip, of fixed size."""

    frames: int = 16  # T
    policy_squeeze: int = 32  # channels of the policy's 1x1 convolution
    policy_width: int = 1024  # of its GRU
