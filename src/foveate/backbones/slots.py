"""The temporal modules of TSM and TAM by name, for the slots of any backbone."""

from __future__ import annotations

from typing import Literal

from torch import nn

from foveate.backbones.parts import TemporalSlot
from foveate.backbones.resnet2d import BLOCKS
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.temporal import PastShift, TemporalShift

Temporal = Literal["none", "shift", "past", "aggregation"]
"""none | TSM's two-sided shift | TSM's one-sided shift, for streams | aggregation of bLVNet-TAM."""


def temporal_slot(
    temporal: Temporal, backbone: str = "", shift_div: int = 8, aggregation: AggregationConfig = TAM
) -> TemporalSlot:
    """A slot that builds the chosen temporal module for each block of a backbone.

    backbone: its name for `build_backbone`, if it has one; in a ResNet whose third stage has 23 blocks or
    more the TSM release shifts in every second block only. shift_div: one channel in `shift_div` moves each
    way. aggregation: options of "aggregation".
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
