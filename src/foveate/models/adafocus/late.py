"""A clip in the place of a tensor, whose frames come when the model asks for them."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.layers.normalise import to_clip
from foveate.models.base import LateFrames


class AskedClip:
    """One clip (1, 3, N, S, S), normalised, of which no frame is there before it is asked for."""

    def __init__(self, frames: LateFrames, spec: ClipSpec, device: torch.device | str | None) -> None:
        self.frames, self.spec = frames, spec
        self.device = torch.device(device or "cpu")
        self.shape = (1, 3, len(frames), spec.size, spec.size)

    def __len__(self) -> int:
        return 1

    def at(self, places: Tensor) -> Tensor:
        """Frames (1, 3, k, S, S) at places (k,)."""
        return to_clip(self.frames.at(places.tolist()).unsqueeze(0), self.spec, self.device)


Clip = Tensor | AskedClip
"""(B, 3, N, S, S), normalised."""
