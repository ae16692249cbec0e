"""What the networks on whole clips share: maps of one or more pathways, and a head of windows.

SlowFast, Slow-only, Fast-only, C2D, I3D and X3D all end in it, so all evaluate a larger crop in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from foveate.errors import UsageError
from foveate.layers.window_head import WindowHead
from foveate.models.base import ModelOutput, VideoModel, all_read, same_macs

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)  # of RGB in all of these networks
FPS = 30.0  # frames a second in which their strides count
Sampling = Literal["even", "segments", "rounded_segments", "dense"]  # those of ClipSpec that fix the frames


class WindowModel(VideoModel):
    """Maps of each pathway and a `WindowHead` on them."""

    head: WindowHead
    parts = ("window_logits",)
    reports = ("window_logits",)

    def maps(self, clip: Tensor) -> Sequence[Tensor]:
        """The last maps (B, C, T, h, w) of each pathway."""
        raise TypeError(f"{type(self).__name__} gives no maps")

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, H, W), any T that `maps` takes. Returns logits (B, classes), the windows' mean."""
        return self.window_logits(clip).mean(1)

    def window_logits(self, clip: Tensor) -> Tensor:
        """The logits of each window, (B, P, classes); P is 1 at the size of the training crop."""
        return self.head.position_logits(self._window_features(clip))

    def features(self, clip: Tensor) -> Tensor:
        """What the classifier reads, (B, channels): 2304 numbers for SlowFast of a ResNet-50."""
        return self._window_features(clip).mean(1)

    def output(self, clip: Tensor) -> ModelOutput:
        """The answer at each window beside the mean. clip: (B, 3, T, H, W)."""
        logits = self.window_logits(clip)
        macs = None if self.training else same_macs(self.part_macs("window_logits", clip[:1]), len(clip))
        pathways = self.pathways(clip.shape[2])
        return ModelOutput(logits.mean(1), all_read(clip), macs, window_logits=logits, pathways=pathways)

    def pathways(self, frames: int) -> dict[str, tuple[int, ...]]:
        """Which of so many frames each pathway reads, by its name; empty for a network with one pathway."""
        return {}

    def _window_features(self, clip: Tensor) -> Tensor:
        if clip.dim() != 5 or clip.shape[1] < 3 or not clip.shape[2]:
            shape = "x".join(map(str, clip.shape))
            raise UsageError("clip", f"is {shape}", "batch x 3 x frames x height x width is wanted")
        return self.head.features(*self.maps(clip))
