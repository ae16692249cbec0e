"""The part that lets frames see each other, chosen by one word, for the temporal slot of any network."""

from __future__ import annotations

from typing import Literal

from torch import nn

from foveate.backbones.parts import TemporalSlot
from foveate.backbones.resnet2d import BLOCKS
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.temporal import PastShift, TemporalShift

Temporal = Literal["none", "shift", "past", "aggregation"]
"""No part | TSM's shift both ways | its one-sided form, for streams | the aggregation of bLVNet-TAM."""


def temporal_slot(
    temporal: Temporal, backbone: str = "", shift_div: int = 8, aggregation: AggregationConfig = TAM
) -> TemporalSlot:
    """What builds the part of each block of a network.

    backbone: its name in the table of `build_backbone`, if it stands there; the TSM release shifts in every
    second block only of a ResNet whose third stage has 23 blocks or more.
    """
    deep = backbone.startswith("resnet") and BLOCKS[int(backbone[6:])][2] >= 23
    every = 2 if deep and temporal in ("shift", "past") else 1

    def slot(stage: int, block: int, channels: int) -> nn.Module | None:
        if temporal == "none" or block % every:
            return None
        if temporal == "aggregation":
            return aggregation.build(channels)
        return TemporalShift(shift_div) if temporal == "shift" else PastShift(shift_div)

    return slot
