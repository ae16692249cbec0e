"""X3D on clips: XS, S, M and L differ in frames, crop and depth.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from foveate.backbones.x3d import X3DBackbone
from foveate.clip import ClipSpec
from foveate.layers.window_head import WindowHead
from foveate.models.windowed import FPS, MEAN, STD, WindowModel


@dataclass(frozen=True)
class X3DConfig:
    width: float = 2.0  # times 12 channels in the stem
    depth: float = 2.2  # times 1, 2, 5 and 3 blocks in the stages
    hidden: int = 2048  # units between the pool and the classifier
    num_classes: int = 400
    frames: int = 13
    stride: int = 6  # raw frames from one frame to the next, at 30 frames a second
    size: int = 160  # side of the crop, pixels
    resize: int = 182  # short side before the test crop, pixels
    window: int = 5  # side of the head's window on the last maps: that of the training crop, over 32
    dropout: float = 0.5
    shortcut_norm: bool = False  # a norm on shortcuts that change the resolution alone, as PySlowFast has it

    def build(self) -> X3D:
        """The untrained model."""
        backbone = X3DBackbone(self.width, self.depth, self.shortcut_norm)
        hidden = nn.Sequential(nn.Conv3d(backbone.channels, self.hidden, 1, bias=False), nn.ReLU())
        head = WindowHead(self.hidden, self.num_classes, self.window, self.dropout, hidden)
        spec = ClipSpec(self.frames, "even", self.stride, self.size, self.resize, MEAN, STD, fps=FPS)
        return X3D(backbone, head, spec, self)


class X3D(WindowModel):
    """An X3D backbone and its head."""

    def __init__(self, backbone: X3DBackbone, head: WindowHead, spec: ClipSpec, config: X3DConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.config = config

    def maps(self, clip: Tensor) -> tuple[Tensor]:
        """clip: (B, 3, T, H, W). Returns (B, C, T, h, w)."""
        return (self.backbone(clip),)
