"""I3D of IBM's study, which compares it with TSN and TAM on the same ResNets.

Chen et al., "Deep Analysis of CNN-based Spatio-temporal Representations for Action Recognition", CVPR 2021.
Each remaining frame of the last maps is classified and the logits are averaged, so the model is a TSN with a
3D backbone (backbones/inflated.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.backbones.inflated import InflatedResNet
from foveate.clip import ClipSpec
from foveate.models.tsn import TSN, ConsensusHead


@dataclass(frozen=True)
class IBMI3DConfig:
    """Configuration of IBM's I3D."""

    depth: Literal[10, 18, 34, 50, 101] = 50
    num_classes: int = 400
    frames: int = 8  # T, one from each segment
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side to which frames are resized before the test crop, pixels
    time_stride: bool = (
        False  # halve the number of frames in stages 2 to 4; the authors' default, not their best
    )
    width: float = 1.0  # multiplier of the channels
    pool: Literal["average", "max"] = "average"  # over space, in front of the classifier
    dropout: float = 0.5

    def build(self) -> TSN:
        """Build the untrained model."""
        net = InflatedResNet(self.depth, max(1, round(64 * self.width)), self.time_stride)
        head = ConsensusHead(net.channels, self.num_classes, self.dropout, self.pool)
        spec = ClipSpec(frames=self.frames, size=self.size, resize=self.resize, mean=net.mean, std=net.std)
        return TSN(net, head, spec, self)
