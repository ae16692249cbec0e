"""Clips in the place of a tensor, of which only those frames are made ready that the model asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.layers.normalise import to_clip
from foveate.layers.shrink import shrink_stored
from foveate.models.base import LateFrames


class StoredClip:
    """Clips (B, 3, N, S, S), of which a frame is normalised when it is asked for.

    frames: uint8 (B, N, S, S, 3).
    """

    def __init__(self, frames: Tensor, spec: ClipSpec, device: torch.device | str | None) -> None:
        self.frames, self.spec = frames.to(device).flatten(0, 1), spec  # those of all clips
        self.device = self.frames.device
        batch, count, height, width, channels = frames.shape
        self.shape = (batch, channels, count, height, width)

    def __len__(self) -> int:
        return self.shape[0]

    def at(self, places: Tensor, videos: Tensor | None = None) -> Tensor:
        """Frames (V, 3, k, S, S) at places (k,) or (V, k) of some videos (V,), by default of all."""
        return to_clip(self._stored(places, videos), self.spec)

    def small(self, places: Tensor, size: int, antialias: bool) -> Tensor:
        """Frames (B, 3, k, size, size) at places (k,) or (B, k), shrunk before they are normalised."""
        return _small(self._stored(places), self.spec, size, antialias)

    def _stored(self, places: Tensor, videos: Tensor | None = None) -> Tensor:
        rows = torch.arange(len(self)) if videos is None else videos
        which = rows.to(self.device).unsqueeze(1) * self.shape[2] + places.to(self.device)
        chosen = self.frames.index_select(0, which.flatten())  # copies whole frames, which is quick
        return chosen.unflatten(0, which.shape)


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
        return to_clip(self._decoded(places), self.spec)

    def small(self, places: Tensor, size: int, antialias: bool) -> Tensor:
        """Frames (1, 3, k, size, size) at places (k,) or (1, k), shrunk before they are normalised."""
        return _small(self._decoded(places), self.spec, size, antialias)

    def _decoded(self, places: Tensor) -> Tensor:
        return self.frames.at(places.flatten().tolist()).unsqueeze(0).to(self.device)


def _small(frames: Tensor, spec: ClipSpec, size: int, antialias: bool) -> Tensor:
    """uint8 (B, k, S, S, 3) to (B, 3, k, size, size), normalised."""
    small = shrink_stored(frames.flatten(0, 1), size, antialias)
    return to_clip(small.unflatten(0, frames.shape[:2]), spec)


Clip = Tensor | StoredClip | AskedClip
"""(B, 3, N, S, S), normalised."""
