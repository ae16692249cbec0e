"""Base class of the 3D networks: feature maps of one or more pathways and a fully convolutional head.

SlowFast, Slow-only, Fast-only, C2D, I3D and X3D. All of them take test crops larger than the training crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from foveate.errors import UsageError
from foveate.layers.fully_conv_head import FullyConvHead
from foveate.models.base import ModelOutput, VideoModel, all_read, rows_at_once

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)  # of RGB in all of these networks
FPS = 30.0  # frame rate in which their strides count
Sampling = Literal["even", "segments", "rounded_segments", "dense"]  # rules of ClipSpec with a fixed T


class Conv3DModel(VideoModel):
    """A model whose `maps` are classified by a `FullyConvHead`."""

    head: FullyConvHead
    parts = ("position_features", "classify")
    reports: tuple[str, ...] = ("position_logits",)

    def maps(self, clip: Tensor) -> Sequence[Tensor]:
        """The last feature maps (B, C, T, h, w) of each pathway."""
        raise TypeError(f"{type(self).__name__} does not implement `maps`")

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, H, W), any T that `maps` takes. Returns logits (B, classes)."""
        return self.classify(self.position_features(clip)).mean(1)

    def position_features(self, clip: Tensor) -> Tensor:
        """The classifier's input at P positions, (B, P, channels); P is 1 at the training crop's size."""
        if clip.dim() != 5 or clip.shape[1] < 3 or not clip.shape[2]:
            shape = "x".join(map(str, clip.shape))
            raise UsageError("clip", f"has shape {shape}", "it must be batch x 3 x frames x height x width")
        return self.head.features(*self.maps(clip))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) from features (..., channels)."""
        return self.head.classify(features)

    def output(self, clip: Tensor) -> ModelOutput:
        """The mean logits and those at each position of the head. clip: (B, 3, T, H, W)."""
        pieces = clip.split(rows_at_once(clip, clip[:1, :1].numel(), self.training))
        features = torch.cat([self.position_features(piece) for piece in pieces])
        logits = self.classify(features)
        return ModelOutput(
            logits=logits.mean(1),
            frames_read=all_read(clip),
            macs=None if self.training else self._macs(clip[:1], features[:1]).expand(len(clip)),
            features=features.mean(1),
            position_logits=logits,
            pathways=self.pathways(clip.shape[2]),
        )

    def _macs(self, clip: Tensor, features: Tensor) -> Tensor:
        return torch.tensor(self.part_macs("position_features", clip) + self.part_macs("classify", features))

    def pathways(self, frames: int) -> dict[str, tuple[int, ...]]:
        """Frame indices that each pathway reads, by its name; empty if there is only one pathway."""
        return {}
