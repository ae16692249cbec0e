"""What a classifier is trained for: the loss of its logits against the labels of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.models.fullvideo import FullVideo
from foveate.train.config import Loss
from foveate.video.transform import to_clip

Frames = Tensor | Sequence[Tensor]
"""Bytes (B, V, T, S, S, C), or (V, T, S, S, C) of each video where their lengths differ."""


class ClipBatch(Protocol):
    """The part of a batch of videos that a classifier learns from."""

    @property
    def frames(self) -> Frames: ...

    @property
    def labels(self) -> Tensor: ...  # (B,) class indices, or (B, C) of 0 and 1


LossFunction = Callable[[Tensor, Tensor], Tensor]


def loss_function(loss: Loss, smoothing: float = 0.0) -> LossFunction:
    """The mean loss of logits (B, C) against labels.

    cross_entropy: labels (B,). soft_cross_entropy: multi-hot (B, C), each row divided by its sum, so that
    the classes of a video share its probability. bce: multi-hot, one independent yes or no for each class.
    smoothing moves that share of the target to all classes alike (towards one half for bce).
    """

    def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        target = labels.float() / labels.sum(1, keepdim=True).clamp(min=1)
        return F.cross_entropy(logits, target, label_smoothing=smoothing)

    def bce(logits: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, labels.float() * (1 - smoothing) + smoothing / 2)

    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    losses: dict[Loss, LossFunction] = {
        "cross_entropy": cross_entropy,
        "soft_cross_entropy": soft_cross_entropy,
        "bce": bce,
    }
    return losses[loss]


def clips_of(frames: Frames) -> Frames:
    """Each view as a clip of its own: bytes (B*V, T, S, S, C), or (T, S, S, C) of each."""
    return frames.flatten(0, 1) if isinstance(frames, Tensor) else [clip for own in frames for clip in own]


def given(model: nn.Module, clips: Frames, spec: ClipSpec, device: torch.device | str | None) -> Any:
    """What `model` reads of clips: one tensor of floats, as `one_clip` makes it, or for full video the bytes.

    That one takes any lengths and makes floats of a chunk of frames at a time.
    """
    return list(clips) if isinstance(model, FullVideo) else one_clip(clips, spec, device)


def one_clip(clips: Frames, spec: ClipSpec, device: torch.device | str | None) -> Tensor:
    """Clips as normalised floats (B, C, T, S, S). UsageError for clips of different lengths."""
    if not isinstance(clips, Tensor):
        lengths = sorted({len(clip) for clip in clips})
        raise UsageError("batch", f"clips of {lengths} frames do not fit together", "use a full-video model")
    return to_clip(clips, spec, device)


@dataclass(frozen=True)
class Classification:
    """The objective of `fit` for a model that turns a clip into logits.

    Every view of a video is a clip of its own with the video's labels.
    """

    spec: ClipSpec
    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, batch: ClipBatch) -> dict[str, Tensor]:
        """The mean loss over the batch, and for single labels the share of correct ones, `top1`."""
        clips = clips_of(batch.frames)
        device = next(model.parameters()).device
        logits = model(given(model, clips, self.spec, device)).float()
        labels = batch.labels.repeat_interleave(len(clips) // len(batch.frames), 0).to(logits.device)
        values = {"loss": loss_function(self.loss, self.label_smoothing)(logits, labels)}
        if self.loss == "cross_entropy":
            values["top1"] = (logits.argmax(1) == labels).float().mean()
        return values
