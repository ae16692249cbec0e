"""bLVNet-TAM: two frames for the price of one, shared out to two networks of different resolution.

Fan et al., "More Is Less: Learning Efficient Video Representations by Big-Little Network and Depthwise
Temporal Aggregation", NeurIPS 2019 (arXiv 1912.00869). The branches of a bLResNet read one frame each of a
pair (backbones/pairs.py), and an aggregation over time stands in front of every split (layers/aggregate.py).
Every pair is classified and the logits are averaged, which is the consensus of TSN: so the model is a TSN of
pairs and this file is its configuration alone; its forward pass is read in models/tsn.py, then in
backbones/pairs.py. Where this code differs: pairs are never written out twice, and their number is free at
every call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.backbones.pairs import PairBLResNet
from foveate.backbones.slots import temporal_slot
from foveate.clip import ClipSpec
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.models.tsn import TSN, ConsensusHead


@dataclass(frozen=True)
class BLVNetConfig:
    depth: Literal[26, 50, 101, 152] = 50
    num_classes: int = 174
    frames: int = 16  # N, two of each pair; the paper's 8x2
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side before the test crop, pixels
    alpha: int = 2  # divides the channels of the little branch
    beta: int = 4  # divides its depth
    temporal: Literal["none", "aggregation"] = "aggregation"
    aggregation: AggregationConfig = TAM  # how, if temporal says so
    width: float = 1.0  # multiplier of the channels
    pool: Literal["average", "max"] = "average"  # over space, in front of the classifier
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.frames % 2 or self.frames < 1:
            raise ValueError(f"{self.frames} frames do not make pairs; give an even number")

    def build(self) -> TSN:
        """The untrained model."""
        slot = temporal_slot(self.temporal, aggregation=self.aggregation)
        net = PairBLResNet(self.depth, self.alpha, self.beta, round(64 * self.width), slot)
        head = ConsensusHead(net.channels, self.num_classes, self.dropout, self.pool)
        spec = ClipSpec(frames=self.frames, size=self.size, resize=self.resize, mean=net.mean, std=net.std)
        return TSN(net, head, spec, self)
