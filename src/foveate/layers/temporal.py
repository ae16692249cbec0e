"""Parts that let the frames of a clip see each other inside a 2D network.

The temporal shift moves a few channels one frame along time, for no parameters and no multiply-adds
(Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019, section 3).
Every part is called as `part(maps, num_frames, memory)` on maps folded to (B*T, C, H, W), because some
networks change the number of frames on their way. Directions follow the released weights, which the
figure in the paper draws the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StreamMemory:
    """What the one-sided parts of a network keep from the frame before, in the order they are met.

    before: the maps kept after the last frame; empty at the start of a stream, which reads as zeros.
    """

    def __init__(self, before: Sequence[Tensor] = ()) -> None:
        self._before = list(before)
        self.now: list[Tensor] = []

    def exchange(self, kept: Tensor) -> Tensor:
        """Keep `kept` for the next frame and return what the same part kept at the frame before."""
        place = len(self.now)
        self.now.append(kept)
        return self._before[place] if self._before else torch.zeros_like(kept)


class TemporalShift(nn.Module):
    """Move C // div channels from the next frame, and as many from the previous one (TSM, offline).

    Channels [0, fold) come from frame t+1, [fold, 2*fold) from frame t-1, the rest stay; outside the
    clip there are zeros.
    """

    def __init__(self, div: int = 8) -> None:
        super().__init__()
        self.div = div

    def forward(self, maps: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        """maps: (B*T, C, H, W). Returns the same shape. A stream raises: the future is not there yet."""
        if memory is not None:
            raise ValueError("a two-sided shift needs the next frame; streaming wants temporal=past")
        fold = maps.shape[1] // self.div
        clip = maps.unflatten(0, (-1, num_frames))  # (B, T, C, H, W)
        future = F.pad(clip[:, 1:, :fold], (0, 0, 0, 0, 0, 0, 0, 1))
        past = F.pad(clip[:, :-1, fold : 2 * fold], (0, 0, 0, 0, 0, 0, 1, 0))
        return torch.cat([future, past, clip[:, :, 2 * fold :]], dim=2).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"div={self.div}"


class PastShift(nn.Module):
    """Move C // div channels from the previous frame only, so that a stream needs no future (TSM, online)."""

    def __init__(self, div: int = 8) -> None:
        super().__init__()
        self.div = div

    def forward(self, maps: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        """maps: (B*T, C, H, W), or (B, C, H, W) of one frame with the memory of the frames before."""
        fold = maps.shape[1] // self.div
        if memory is not None:
            return torch.cat([memory.exchange(maps[:, :fold]), maps[:, fold:]], dim=1)
        clip = maps.unflatten(0, (-1, num_frames))  # (B, T, C, H, W)
        past = F.pad(clip[:, :-1, :fold], (0, 0, 0, 0, 0, 0, 1, 0))
        return torch.cat([past, clip[:, :, fold:]], dim=2).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"div={self.div}"


class TemporalPool(nn.Module):
    """Maximum or average over three frames, every second frame kept: T becomes (T + 1) // 2.

    An average counts the zeros around the clip, as the release of IBM's TAM does.
    """

    def __init__(self, method: Literal["max", "average"] = "max") -> None:
        super().__init__()
        self.pool = F.max_pool3d if method == "max" else F.avg_pool3d

    def forward(self, maps: Tensor, num_frames: int) -> Tensor:
        """maps: (B*T, C, H, W). Returns (B * ((T + 1) // 2), C, H, W)."""
        clip = maps.unflatten(0, (-1, num_frames)).transpose(1, 2)  # (B, C, T, H, W)
        pooled: Tensor = self.pool(clip, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
        return pooled.transpose(1, 2).flatten(0, 1)
