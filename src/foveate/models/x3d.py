"""X3D: XS, S, M and L differ in frames, crop and depth.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from foveate.backbones.x3d import X3DBackbone
from foveate.clip import ClipSpec
from foveate.layers.fully_conv_head import FullyConvHead
from foveate.models.conv3d import FPS, MEAN, STD, Conv3DModel


@dataclass(frozen=True)
class X3DConfig:
    """Configuration of X3D."""

    width: float = 2.0  # expansion factor, times 12 channels in the stem
    depth: float = 2.2  # expansion factor, times 1, 2, 5 and 3 blocks in the stages
    hidden: int = 2048  # units between the pool and the classifier
    num_classes: int = 400
    frames: int = 13
    stride: int = 6  # distance of two frames in video frames, at 30 fps
    size: int = 160  # side of the crop, pixels
    resize: int = 182  # short side to which frames are resized before the test crop, pixels
    window: int = 5  # side of the head's spatial window in cells of the last maps; training crop / 32
    dropout: float = 0.5
    shortcut_norm: bool = False  # a norm on shortcuts that change only the resolution, as in PySlowFast

    def build(self) -> X3D:
        """Build the untrained model."""
        backbone = X3DBackbone(self.width, self.depth, self.shortcut_norm)
        hidden = nn.Sequential(nn.Conv3d(backbone.channels, self.hidden, 1, bias=False), nn.ReLU())
        head = FullyConvHead(self.hidden, self.num_classes, self.window, self.dropout, hidden)
        spec = ClipSpec(self.frames, "even", self.stride, self.size, self.resize, MEAN, STD, fps=FPS)
        return X3D(backbone, head, spec, self)


class X3D(Conv3DModel):
    """An X3D backbone with a fully convolutional head."""

    def __init__(self, backbone: X3DBackbone, head: FullyConvHead, spec: ClipSpec, config: X3DConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.config = config

    def maps(self, clip: Tensor) -> tuple[Tensor]:
        """clip: (B, 3, T, H, W). Returns (B, C, T, h, w)."""
        return (self.backbone(clip),)
