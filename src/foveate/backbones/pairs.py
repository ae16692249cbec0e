"""bLVNet: of each pair of frames the big branch reads one at half the size, the little branch the other.

Fan et al., "More Is Less", NeurIPS 2019 (arXiv 1912.00869), section 3.1: two frames for the price of one.
The released code writes the merged map of a pair back to both of its frames, so that stages and temporal
parts run over all frames again; here the map stands once, and the temporal part works out what either frame
of the pair would have seen. The numbers are the same.
"""

from __future__ import annotations

from torch import Tensor, nn

from foveate.backbones.blresnet import BLResNet
from foveate.backbones.parts import TemporalSlot, no_slot
from foveate.errors import UsageError
from foveate.layers.aggregate import TemporalAggregation
from foveate.layers.temporal import StreamMemory


class PairBLResNet(BLResNet):
    """bLResNet over pairs of frames folded into the batch, one map a pair.

    Frames 0, 2, 4 .. go to the little branch, frames 1, 3, 5 .. to the big one. slot: as of BLResNet, and in
    front of the split of the stem (stage 0); it makes aggregations or nothing.
    """

    def __init__(
        self, depth: int, alpha: int = 2, beta: int = 4, width: int = 64, slot: TemporalSlot = no_slot
    ) -> None:
        super().__init__(depth, alpha, beta, width, slot)
        self.temporal = slot(0, 0, width)

    def forward(self, images: Tensor, num_frames: int = 2, memory: StreamMemory | None = None) -> Tensor:
        """images: (B*2K, 3, H, W). Returns maps (B*K, channels, H/32, W/32). UsageError if odd or none."""
        if num_frames % 2 or not num_frames:
            raise UsageError(
                "bLVNet", f"{num_frames} frames do not make pairs", "give an even number of frames"
            )
        pairs = num_frames // 2
        x = self.stem.shared(images)
        x = x if self.temporal is None else self.temporal(x, num_frames, memory)
        little, big = x.unflatten(0, (-1, 2)).unbind(1)
        x = self.stem.merge(little, big)  # (B*K, width, H/4, W/4)
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage.merge(*_shared_out(stage.temporal, x, pairs))
        maps: Tensor = self.layer4(x, pairs, memory)
        return maps


def _shared_out(temporal: nn.Module | None, maps: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
    """What the little and the big branch read of each pair."""
    if temporal is None:
        return maps, maps
    assert isinstance(temporal, TemporalAggregation)
    return temporal.split_pairs(maps, num_pairs)
