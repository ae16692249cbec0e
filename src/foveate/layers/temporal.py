"""Temporal modules that exchange features between the frames of a clip inside a 2D network.

The temporal shift moves a few channels one frame along time, for no parameters and no multiply-adds
(Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019, section 3).
Every module is called as `module(maps, num_frames, memory)` on maps folded to (B*T, C, H, W); the number of
frames is an argument because some networks change it between stages. Shift directions follow the released
weights; the figure in the paper draws them the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def is_traced() -> bool:
    """Whether a compiler reads the operations of this call."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def moved_in_batch(maps: Tensor, num_frames: int, offset: int, weight: Tensor | None = None) -> Tensor:
    """The map of the frame `offset` later in the place of each map (B*T, C, H, W); 0 outside the clip.

    weight: (C, 1, 1), a factor for each channel. For compilers: they keep images channels-last, and copy them
    twice for a view with time as a dimension of its own. PyTorch is faster with that view.
    """
    places = torch.arange(maps.shape[0], device=maps.device) % num_frames + offset
    inside = ((places >= 0) & (places < num_frames)).to(maps.dtype).view(-1, 1, 1, 1)
    moved = F.pad(maps, (0, 0, 0, 0, 0, 0, -offset, offset))  # cuts one end: one copy, not two
    return moved * (inside if weight is None else inside * weight)


class StreamMemory:
    """Feature maps that the one-sided modules of a network carry from one frame of a stream to the next.

    before: `now` of the previous frame's memory; empty at the start of a stream, where zeros are used.
    """

    def __init__(self, before: Sequence[Tensor] = ()) -> None:
        self._before = list(before)
        self.now: list[Tensor] = []

    def exchange(self, kept: Tensor) -> Tensor:
        """Store `kept` for the next frame and return what the same module stored at the previous frame."""
        place = len(self.now)
        self.now.append(kept)
        return self._before[place] if self._before else torch.zeros_like(kept)


class TemporalShift(nn.Module):
    """Two-sided (offline) shift of TSM: C // div channels from the next frame, as many from the previous one.

    With fold = C // div: channels [0, fold) come from frame t+1, [fold, 2*fold) from frame t-1, the rest
    stay; outside the clip there are zeros.
    """

    def __init__(self, div: int = 8) -> None:
        super().__init__()
        self.div = div

    def forward(self, maps: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        """maps: (B*T, C, H, W). Returns the same shape. ValueError in a stream: it needs the next frame."""
        if memory is not None:
            raise ValueError("a two-sided shift needs the next frame; to stream, use temporal=past")
        fold = maps.shape[1] // self.div
        if is_traced():
            future = moved_in_batch(maps[:, :fold], num_frames, 1)
            past = moved_in_batch(maps[:, fold : 2 * fold], num_frames, -1)
            return torch.cat([future, past, maps[:, 2 * fold :]], dim=1)
        clip = maps.unflatten(0, (-1, num_frames))  # (B, T, C, H, W)
        future = F.pad(clip[:, 1:, :fold], (0, 0, 0, 0, 0, 0, 0, 1))
        past = F.pad(clip[:, :-1, fold : 2 * fold], (0, 0, 0, 0, 0, 0, 1, 0))
        return torch.cat([future, past, clip[:, :, 2 * fold :]], dim=2).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"div={self.div}"


class PastShift(nn.Module):
    """One-sided (online) shift of TSM: C // div channels from the previous frame only, so it can stream."""

    def __init__(self, div: int = 8) -> None:
        super().__init__()
        self.div = div

    def forward(self, maps: Tensor, num_frames: int, memory: StreamMemory | None = None) -> Tensor:
        """maps: (B*T, C, H, W), or (B, C, H, W) of one frame of a stream with its memory. Same shape back."""
        fold = maps.shape[1] // self.div
        if memory is not None:
            return torch.cat([memory.exchange(maps[:, :fold]), maps[:, fold:]], dim=1)
        if is_traced():
            return torch.cat([moved_in_batch(maps[:, :fold], num_frames, -1), maps[:, fold:]], dim=1)
        clip = maps.unflatten(0, (-1, num_frames))  # (B, T, C, H, W)
        past = F.pad(clip[:, :-1, :fold], (0, 0, 0, 0, 0, 0, 1, 0))
        return torch.cat([past, clip[:, :, fold:]], dim=2).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"div={self.div}"


class TemporalPool(nn.Module):
    """Max or average pooling over three frames with stride 2: T becomes (T + 1) // 2.

    The average includes the zero padding at the ends of the clip, as in IBM's release of TAM.
    """

    def __init__(self, method: Literal["max", "average"] = "max") -> None:
        super().__init__()
        self.pool = F.max_pool3d if method == "max" else F.avg_pool3d

    def forward(self, maps: Tensor, num_frames: int) -> Tensor:
        """maps: (B*T, C, H, W). Returns (B * ((T + 1) // 2), C, H, W)."""
        clip = maps.unflatten(0, (-1, num_frames)).transpose(1, 2)  # (B, C, T, H, W)
        pooled: Tensor = self.pool(clip, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
        return pooled.transpose(1, 2).flatten(0, 1)
