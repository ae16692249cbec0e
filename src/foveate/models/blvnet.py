"""bLVNet-TAM: of each pair of frames a big branch reads one at half resolution, a little branch the other.

Fan et al., "More Is Less: Learning Efficient Video Representations by Big-Little Network and Depthwise
Temporal Aggregation", NeurIPS 2019 (arXiv 1912.00869). The branches of a bLResNet read one frame each of a
pair (backbones/blresnet.py), with a temporal aggregation in front of every split (layers/aggregate.py). Every
pair is classified and the logits are averaged, which is the consensus of TSN. So the model is a TSN on pairs,
and this file holds its configuration alone; the forward pass is in models/tsn.py and backbones/blresnet.py.
Differences from the release: each pair has one map instead of two equal ones, and any number of pairs works.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.backbones.blresnet import PairBLResNet
from foveate.backbones.slots import temporal_slot
from foveate.clip import CHANNELS, ClipSpec, Modality, levels_of
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.models.tsn import TSN, ConsensusHead


@dataclass(frozen=True)
class BLVNetConfig:
    """Configuration of bLVNet and bLVNet-TAM."""

    depth: Literal[26, 50, 101, 152] = 50
    num_classes: int = 174
    frames: int = 16  # N, two for each pair; the paper's 8x2
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side to which frames are resized before the test crop, pixels
    modality: Modality = "rgb"  # flow: each of the N frames is a stack of optical flow
    alpha: int = 2  # divides the channels of the little branch
    beta: int = 4  # divides the depth of the little branch
    temporal: Literal["none", "aggregation"] = "aggregation"
    aggregation: AggregationConfig = TAM  # options of temporal="aggregation"
    width: float = 1.0  # multiplier of the channels
    pool: Literal["average", "max"] = "average"  # over space, in front of the classifier
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.frames % 2 or self.frames < 1:
            raise ValueError(f"{self.frames} frames do not form pairs; use an even number")

    def build(self) -> TSN:
        """Build the untrained model."""
        slot = temporal_slot(self.temporal, aggregation=self.aggregation)
        inputs = CHANNELS[self.modality]
        net = PairBLResNet(self.depth, self.alpha, self.beta, round(64 * self.width), slot, inputs)
        head = ConsensusHead(net.channels, self.num_classes, self.dropout, self.pool)
        mean, std = levels_of(self.modality, net.mean, net.std)
        spec = ClipSpec(
            self.frames, size=self.size, resize=self.resize, mean=mean, std=std, modality=self.modality
        )
        return TSN(net, head, spec, self, frames_a_map=2)
