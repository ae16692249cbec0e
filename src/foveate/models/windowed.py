"""What the networks on whole clips share: maps of one or more pathways, and a head of windows.

SlowFast, Slow-only, Fast-only, C2D, I3D and X3D all end in it, so all evaluate a larger crop in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from foveate.errors import UsageError
from foveate.layers.window_head import WindowHead
from foveate.models.base import ModelOutput, VideoModel, all_read

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)  # of RGB in all of these networks
FPS = 30.0  # frames a second in which their strides count
Sampling = Literal["even", "segments", "rounded_segments", "dense"]  # those of ClipSpec that fix the frames


class WindowModel(VideoModel):
    """Maps of each pathway and a `WindowHead` on them."""

    head: WindowHead
    parts = ("window_features", "classify")
    reports: tuple[str, ...] = ("window_logits",)

    def maps(self, clip: Tensor) -> Sequence[Tensor]:
        """The last maps (B, C, T, h, w) of each pathway."""
        raise TypeError(f"{type(self).__name__} gives no maps")

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, H, W), any T that `maps` takes. Returns logits (B, classes), the windows' mean."""
        return self.classify(self.window_features(clip)).mean(1)

    def window_features(self, clip: Tensor) -> Tensor:
        """What is classified of each window, (B, P, channels); P is 1 at the size of the training crop."""
        if clip.dim() != 5 or clip.shape[1] < 3 or not clip.shape[2]:
            shape = "x".join(map(str, clip.shape))
            raise UsageError("clip", f"is {shape}", "batch x 3 x frames x height x width is wanted")
        return self.head.features(*self.maps(clip))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) of features (..., channels)."""
        return self.head.classify(features)

    def output(self, clip: Tensor) -> ModelOutput:
        """The answer at each window beside the mean. clip: (B, 3, T, H, W)."""
        features = self.window_features(clip)
        logits = self.classify(features)
        return ModelOutput(
            logits=logits.mean(1),
            frames_read=all_read(clip),
            macs=None if self.training else self._macs(clip[:1], features[:1]).expand(len(clip)),
            features=features.mean(1),
            window_logits=logits,
            pathways=self.pathways(clip.shape[2]),
        )

    def _macs(self, clip: Tensor, features: Tensor) -> Tensor:
        return torch.tensor(self.part_macs("window_features", clip) + self.part_macs("classify", features))

    def pathways(self, frames: int) -> dict[str, tuple[int, ...]]:
        """Which of so many frames each pathway reads, by its name; empty for a network with one pathway."""
        return {}
