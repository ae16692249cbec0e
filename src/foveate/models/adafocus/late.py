"""Clips in the place of a tensor, of which only those frames are made ready that the model asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.layers.normalise import to_clip
from foveate.models.base import LateFrames


class StoredClip:
    """Clips (B, 3, N, S, S), of which a frame is normalised when it is asked for.

    frames: uint8 (B, N, S, S, 3).
    """

    def __init__(self, frames: Tensor, spec: ClipSpec, device: torch.device | str | None) -> None:
        self.frames, self.spec = frames.to(device), spec
        self.device = self.frames.device
        batch, count, height, width, channels = frames.shape
        self.shape = (batch, channels, count, height, width)

    def __len__(self) -> int:
        return self.shape[0]

    def at(self, places: Tensor, videos: Tensor | None = None) -> Tensor:
        """Frames (V, 3, k, S, S) at places (k,) or (V, k) of some videos (V,), by default of all."""
        rows = torch.arange(len(self)) if videos is None else videos
        rows = rows.to(self.device).unsqueeze(1)
        return to_clip(self.frames[rows, places.expand(len(rows), -1)], self.spec)


class AskedClip:
    """One clip (1, 3, N, S, S), of which a frame is decoded and normalised when it is asked for."""

    def __init__(self, frames: LateFrames, spec: ClipSpec, device: torch.device | str | None) -> None:
        self.frames, self.spec = frames, spec
        self.device = torch.device(device or "cpu")
        self.shape = (1, 3, len(frames), spec.size, spec.size)

    def __len__(self) -> int:
        return 1

    def at(self, places: Tensor, videos: Tensor | None = None) -> Tensor:
        """Frames (1, 3, k, S, S) at places (k,) or (1, k)."""
        return to_clip(self.frames.at(places.flatten().tolist()).unsqueeze(0), self.spec, self.device)


Clip = Tensor | StoredClip | AskedClip
"""(B, 3, N, S, S), normalised."""
