"""The glance network of an AdaFocus model as a model of its own: what patches must beat."""

from __future__ import annotations

from torch import Tensor

from foveate.models.adafocus.parts import FocusModel
from foveate.models.base import ModelOutput, VideoModel, all_read, same_macs


class GlanceAlone(VideoModel):
    """The glance network of a model with its own head: the logits of the frames averaged."""

    parts = ("frame_logits",)
    reports = ("frame_logits",)
    resizable = False

    def __init__(self, model: FocusModel) -> None:
        super().__init__()
        self.model = model
        self.spec, self.config = model.spec, model.config
        self.labels, self.independent = model.labels, model.independent

    @property
    def num_classes(self) -> int:
        return self.model.num_classes

    def frame_logits(self, clip: Tensor) -> Tensor:
        """Logits (B, T, classes) of each frame of a clip (B, 3, T, S, S)."""
        logits: Tensor = self.model.glance_head(self.model.glance_at(clip).features)
        return logits

    def output(self, clip: Tensor) -> ModelOutput:
        """The mean over the frames. clip: (B, 3, T, S, S)."""
        logits = self.frame_logits(clip)
        macs = None if self.training else same_macs(self.part_macs("frame_logits", clip[:1]), len(clip))
        return ModelOutput(logits.mean(1), all_read(clip), macs, frame_logits=logits)
