"""What the networks on whole clips share: maps of one or more pathways, and a head of windows.

SlowFast, Slow-only, Fast-only, C2D, I3D and X3D all end in it, so all evaluate a larger crop in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from foveate.errors import UsageError
from foveate.layers.window_head import WindowHead
from foveate.models.base import VideoModel

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)  # of RGB in all of these networks
FPS = 30.0  # frames a second in which their strides count
Sampling = Literal["even", "segments", "rounded_segments", "dense"]  # those of ClipSpec that fix the frames


@dataclass(frozen=True)
class WindowTrace:
    """What such a network answered.

    logits: (B, classes). logits_map: (B, P, classes) at the P windows of a clip larger than the training
    crop; its mean is the logits. features: (B, channels), what was classified, their mean.
    """

    logits: Tensor
    logits_map: Tensor
    features: Tensor

    @property
    def scores(self) -> Tensor:
        """Probabilities (B, classes) as PySlowFast averages them: a softmax at each window, then the mean."""
        return self.logits_map.softmax(-1).mean(1)


class WindowModel(VideoModel):
    """Maps of each pathway and a `WindowHead` on them."""

    head: WindowHead

    def maps(self, clip: Tensor) -> Sequence[Tensor]:
        """The last maps (B, C, T, h, w) of each pathway."""
        raise TypeError(f"{type(self).__name__} gives no maps")

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, H, W), any T that `maps` takes. Returns logits (B, classes), the windows' mean."""
        return self.position_logits(clip).mean(1)

    def position_logits(self, clip: Tensor) -> Tensor:
        """The logits of each window, (B, P, classes)."""
        return self.head.position_logits(self._position_features(clip))

    def features(self, clip: Tensor) -> Tensor:
        """What the classifier reads, (B, channels): 2304 numbers for SlowFast of a ResNet-50."""
        return self._position_features(clip).mean(1)

    def trace(self, clip: Tensor) -> WindowTrace:
        """The answer at each window beside the mean. clip: (B, 3, T, H, W)."""
        features = self._position_features(clip)
        logits_map = self.head.position_logits(features)
        return WindowTrace(logits_map.mean(1), logits_map, features.mean(1))

    def _position_features(self, clip: Tensor) -> Tensor:
        if clip.dim() != 5 or clip.shape[1] < 3 or not clip.shape[2]:
            shape = "x".join(map(str, clip.shape))
            raise UsageError("clip", f"is {shape}", "batch x 3 x frames x height x width is wanted")
        return self.head.features(*self.maps(clip))
