"""TAM: each channel of a frame becomes a learnt mixture of the same channel in the frames around it.

Fan et al., "More Is Less: Learning Efficient Video Representations by Big-Little Network and Depthwise
Temporal Aggregation", NeurIPS 2019 (arXiv 1912.00869), section 3.2. The release filters with one depthwise
convolution a tap and shifts afterwards; here each tap is one multiply-add on a shifted view, which gives the
same numbers in a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers.temporal import StreamMemory

Tap = tuple[int, Tensor]
"""How many frames ahead a tap looks, and its weight."""


@dataclass(frozen=True)
class AggregationConfig:
    taps: int = 3  # r, frames that are mixed; of an even number one more lies in the past
    method: Literal["sum", "max"] = "sum"
    full: bool = False  # mix all channels by a 1x1 convolution a tap, not each channel with itself
    # random: as published; at first, what the network before it found is mixed by lot | identity: nothing is
    # mixed until it is learnt (own addition; where the ReLU has nothing to cut, as in ResNets)
    start: Literal["random", "identity"] = "random"

    def __post_init__(self) -> None:
        if self.taps < 1:
            raise ValueError(f"aggregation over {self.taps} frames; it takes at least 1")
        if self.full and self.start == "identity":
            raise ValueError("aggregation over all channels starts at random: choose full or start=identity")

    def build(self, channels: int) -> TemporalAggregation:
        """The part for maps of so many channels."""
        return TemporalAggregation(channels, self)


TAM = AggregationConfig()
"""As in all released models."""


class TemporalAggregation(nn.Module):
    """y[t] = ReLU(sum over i of w_i * x[t + i - r // 2]), zeros outside the clip (the paper's TAM).

    Any number of frames; taps that reach across a whole short clip add nothing to it.
    """

    def __init__(self, channels: int, config: AggregationConfig = TAM) -> None:
        super().__init__()
        self.config = config
        inputs = channels if config.full else 1
        shape = (channels, inputs, 1, 1)  # of a convolution, as in the released files
        self.weights = nn.ParameterList(torch.empty(shape) for _ in range(config.taps))
        for place, weight in enumerate(self.weights):  # from the past to the future
            if config.start == "identity":
                nn.init.constant_(weight, float(place == config.taps // 2))
            else:
                nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        """maps: (B*T, C, H, W). Returns the same shape. A stream raises: the future is not there yet."""
        if memory is not None:
            raise ValueError("aggregation needs the next frame; streaming wants temporal=past")
        return self._mix(maps, num_frames, self._taps())

    def split_pairs(self, maps: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
        """What the first and the second frames of pairs become, if both frames of a pair are alike.

        maps: (B*K, C, H, W), one for each pair. Returns two of that shape. Equals `forward` on 2K frames in
        which every map stands twice, for half the work: the tap at offset d of frame q reads pair
        (q + d) // 2, and taps that read the same pair are one tap with the sum of their weights.
        """
        first = self._mix(maps, num_pairs, self._shared([(d // 2, weight) for d, weight in self._taps()]))
        second = self._shared([((1 + d) // 2, weight) for d, weight in self._taps()])
        return first, self._mix(maps, num_pairs, second)

    def _taps(self) -> list[Tap]:
        past = self.config.taps // 2
        return [(place - past, weight) for place, weight in enumerate(self.weights)]

    def _shared(self, taps: Sequence[Tap]) -> list[Tap]:
        """Taps of the same offset as one; the larger of two products is no product of one weight."""
        if self.config.method == "max":
            return list(taps)
        sums: dict[int, Tensor] = {}
        for offset, weight in taps:
            sums[offset] = sums[offset] + weight if offset in sums else weight
        return list(sums.items())

    def _mix(self, maps: Tensor, num_frames: int, taps: Sequence[Tap]) -> Tensor:
        """ReLU of the sum or the maximum over taps. The tap at offset 0 covers every frame and begins."""
        clip = maps.unflatten(0, (-1, num_frames))  # (B, T, C, H, W)
        in_reach = sorted((tap for tap in taps if abs(tap[0]) < num_frames), key=lambda tap: tap[0] != 0)
        mixed = self._weighed(clip, in_reach[0][1])
        for offset, weight in in_reach[1:]:
            before, after = max(0, -offset), max(0, offset)  # frames whose neighbour lies outside the clip
            there = clip[:, after : num_frames - before]
            here = mixed[:, before : num_frames - after]
            if self.config.method == "max":
                around = (0, 0, 0, 0, 0, 0, before, after)  # these zeros take part as the ReLU does
                mixed = torch.maximum(mixed, F.pad(self._weighed(there, weight), around))
            elif self.config.full:
                here.add_(self._weighed(there, weight))
            else:
                here.addcmul_(there, weight.to(clip.dtype).squeeze(-1))
        return F.relu(mixed, inplace=True).flatten(0, 1)

    def _weighed(self, clip: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(clip.dtype)  # under autocast the maps are of lower precision
        if self.config.full:
            return F.conv2d(clip.flatten(0, 1), weight).unflatten(0, clip.shape[:2])
        return clip * weight.squeeze(-1)  # (C, 1, 1)

    def extra_repr(self) -> str:
        return f"{self.weights[0].shape[0]} channels, {self.config}"
