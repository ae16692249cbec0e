"""TAM: a learned weighted sum of each channel over neighbouring frames (Temporal Aggregation Module).

Fan et al., "More Is Less: Learning Efficient Video Representations by Big-Little Network and Depthwise
Temporal Aggregation", NeurIPS 2019 (arXiv 1912.00869), section 3.2. The release uses one depthwise 1x1
convolution per tap and shifts afterwards; here each tap is one multiply-add on a shifted view, which gives
the same numbers in a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers.temporal import StreamMemory, is_traced, moved_in_batch

Tap = tuple[int, Tensor]
"""Temporal offset in frames (negative: the past) and weight of one tap of the filter."""


@dataclass(frozen=True)
class AggregationConfig:
    """Options of the Temporal Aggregation Module."""

    taps: int = 3  # r, frames that are mixed; if even, one more of them lies in the past
    method: Literal["sum", "max"] = "sum"
    full: bool = False  # a full 1x1 convolution per tap instead of a depthwise one
    # random: as published, which disturbs pretrained features at first | identity: passes each frame through
    # unchanged at first (own addition; exact where the input is non-negative, as in ResNets)
    start: Literal["random", "identity"] = "random"

    def __post_init__(self) -> None:
        if self.taps < 1:
            raise ValueError(f"aggregation over {self.taps} frames; it takes at least 1")
        if self.full and self.start == "identity":
            raise ValueError("aggregation over all channels starts at random: choose full or start=identity")

    def build(self, channels: int) -> TemporalAggregation:
        """Build the module for feature maps with this number of channels."""
        return TemporalAggregation(channels, self)


TAM = AggregationConfig()
"""The setting of all released models: three depthwise taps and a sum."""


class TemporalAggregation(nn.Module):
    """y[t] = ReLU(sum over i of w_i * x[t + i - r // 2]), zero-padded in time (TAM, section 3.2).

    Works for any number of frames.
    """

    def __init__(self, channels: int, config: AggregationConfig = TAM) -> None:
        super().__init__()
        self.config = config
        inputs = channels if config.full else 1
        shape = (channels, inputs, 1, 1)  # of a convolution, as in the released files
        self.weights = nn.ParameterList(torch.empty(shape) for _ in range(config.taps))
        for tap, weight in enumerate(self.weights):  # from the past to the future
            if config.start == "identity":
                nn.init.constant_(weight, float(tap == config.taps // 2))
            else:
                nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        """maps: (B*T, C, H, W). Returns the same shape. ValueError in a stream: it needs the next frame."""
        if memory is not None:
            raise ValueError("aggregation needs the next frame; to stream, use temporal=past")
        return self._mix(maps, num_frames, self._taps())

    def split_pairs(self, maps: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
        """`forward` on a clip in which every map is repeated twice, for half the work.

        maps: (B*K, C, H, W), one for each pair of frames. Returns the results for the first and for the
        second frame of each pair, both of that shape. The tap at offset d of frame q in {0, 1} reads pair
        (q + d) // 2; taps that read the same pair are merged by adding their weights.
        """
        first = self._mix(maps, num_pairs, self._merge_taps([(d // 2, weight) for d, weight in self._taps()]))
        second = self._merge_taps([((1 + d) // 2, weight) for d, weight in self._taps()])
        return first, self._mix(maps, num_pairs, second)

    def _taps(self) -> list[Tap]:
        past = self.config.taps // 2
        return [(tap - past, weight) for tap, weight in enumerate(self.weights)]

    def _merge_taps(self, taps: Sequence[Tap]) -> list[Tap]:
        """Merge taps of the same offset. Not for "max": a maximum of two products is not one product."""
        if self.config.method == "max":
            return list(taps)
        sums: dict[int, Tensor] = {}
        for offset, weight in taps:
            sums[offset] = sums[offset] + weight if offset in sums else weight
        return list(sums.items())

    def _mix(self, maps: Tensor, num_frames: int, taps: Sequence[Tap]) -> Tensor:
        """ReLU of the sum or the maximum over taps; starts with offset 0, which covers every frame."""
        in_reach = sorted((tap for tap in taps if abs(tap[0]) < num_frames), key=lambda tap: tap[0] != 0)
        if is_traced():
            return self._mix_traced(maps, num_frames, in_reach)
        clip = maps.unflatten(0, (-1, num_frames))  # (B, T, C, H, W)
        mixed = self._scale(clip, in_reach[0][1])
        for offset, weight in in_reach[1:]:
            before, after = max(0, -offset), max(0, offset)  # frames whose neighbour lies outside the clip
            neighbours = clip[:, after : num_frames - before]
            here = mixed[:, before : num_frames - after]
            if self.config.method == "max":
                padding = (0, 0, 0, 0, 0, 0, before, after)  # padding with 0 changes nothing: a ReLU follows
                mixed = torch.maximum(mixed, F.pad(self._scale(neighbours, weight), padding))
            elif self.config.full:
                here.add_(self._scale(neighbours, weight))
            else:
                here.addcmul_(neighbours, weight.to(clip.dtype).squeeze(-1))
        return F.relu(mixed, inplace=True).flatten(0, 1)

    def _mix_traced(self, maps: Tensor, num_frames: int, taps: Sequence[Tap]) -> Tensor:
        """`_mix` in operations that compilers are good at."""
        mixed = self._scaled(maps, num_frames, taps[0])
        for tap in taps[1:]:
            scaled = self._scaled(maps, num_frames, tap)
            mixed = torch.maximum(mixed, scaled) if self.config.method == "max" else mixed + scaled
        return F.relu(mixed)

    def _scaled(self, maps: Tensor, num_frames: int, tap: Tap) -> Tensor:
        offset, weight = tap
        if self.config.full:
            maps = F.conv2d(maps, weight)
            return moved_in_batch(maps, num_frames, offset) if offset else maps
        factors = weight.squeeze(-1)  # (C, 1, 1)
        return moved_in_batch(maps, num_frames, offset, factors) if offset else maps * factors

    def _scale(self, clip: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(clip.dtype)  # under autocast the maps are of lower precision
        if self.config.full:
            return F.conv2d(clip.flatten(0, 1), weight).unflatten(0, clip.shape[:2])
        return clip * weight.squeeze(-1)  # (C, 1, 1)

    def extra_repr(self) -> str:
        return f"{self.weights[0].shape[0]} channels, {self.config}"
