"""The configuration that all models of the AdaFocus family have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.backbones.build import STRIDES, Backbone2D, FrameNet, Stem, build_backbone, map_side
from foveate.backbones.parts import TemporalSlot, no_slot
from foveate.backbones.resnet2d import Strides
from foveate.clip import ClipSpec, ShortPolicy


@dataclass(frozen=True)
class FocusConfig:
    """The fields that all models of the family have."""

    glance: Backbone2D = "mobilenetv2"  # f_G
    local: Backbone2D = "resnet50"  # f_L
    num_classes: int = 200
    frames: int = 16  # T
    size: int = 224  # S, side of the frame that patches are cut from, pixels
    resize: int = 256  # short side before the test crop, pixels
    glance_size: int = 224  # G, side of the frame that f_G sees, pixels
    patch: int = 128  # P, side of a patch, pixels
    policy_squeeze: int = 32  # channels of the policy's 1x1 convolution
    policy_width: int = 1024  # of its GRU
    dropout: float = 0.5  # in front of the classifier
    pool: Literal["average", "max"] = "average"  # over space, of both networks' maps
    glance_width: float = 1.0  # multiplier of the channels
    local_width: float = 1.0
    glance_stem: Stem = "large"  # of a ResNet: small for images of 48 to 112 pixels
    local_stem: Stem = "large"
    glance_strides: Strides = STRIDES  # of a ResNet's stages: smaller ones keep small things apart

    def __post_init__(self) -> None:
        if min(self.patch, self.glance_size) < 1:
            sizes = f"patch {self.patch} and glance_size {self.glance_size}"
            raise ValueError(f"{sizes} must be at least one pixel")
        if self.patch > self.size:
            raise ValueError(f"a patch of {self.patch} pixels does not fit into a frame of {self.size}")
        if self.glance_size > self.size:
            raise ValueError(f"the glance, {self.glance_size} pixels, is larger than the frame, {self.size}")
        if self.resize < self.size:
            raise ValueError(f"resize {self.resize} is smaller than the crop, size {self.size}")

    @property
    def room(self) -> int:
        """S - P, pixels that a patch can move."""
        return self.size - self.patch

    @property
    def glance_side(self) -> int:
        """Side of the glance's last map."""
        return map_side(self.glance_size, self.glance_stem, self.glance_strides)

    def clip_spec(self, glance: FrameNet, short: ShortPolicy = "spread") -> ClipSpec:
        """Frames of equal parts of the video, as both networks want them."""
        return ClipSpec(
            self.frames,
            size=self.size,
            resize=self.resize,
            mean=glance.mean,
            std=glance.std,
            short=short,
        )

    def networks(
        self, glance_slot: TemporalSlot = no_slot, local_slot: TemporalSlot = no_slot
    ) -> tuple[FrameNet, FrameNet]:
        """The untrained f_G and f_L, with something between their blocks that lets frames see each other."""
        strides = self.glance_strides
        return (
            build_backbone(self.glance, self.glance_width, self.glance_stem, glance_slot, strides=strides),
            build_backbone(self.local, self.local_width, self.local_stem, local_slot),
        )
