"""What a classifier is trained for: the loss of its logits against the labels of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.models.base import VideoModel
from foveate.train.config import Loss

Frames = Tensor | Sequence[Tensor]
"""Bytes (B, V, T, S, S, C), or (V, T, S, S, C) of each video where their lengths differ."""


class ClipBatch(Protocol):
    """The part of a batch of videos that a classifier learns from."""

    @property
    def frames(self) -> Frames: ...

    @property
    def labels(self) -> Tensor: ...  # (B,) class indices, or (B, C) of 0 and 1


LossFunction = Callable[[Tensor, Tensor], Tensor]


def loss_function(loss: Loss, smoothing: float = 0.0, weights: Sequence[float] = ()) -> LossFunction:
    """The mean loss of logits (B, C) against labels.

    cross_entropy: labels (B,). soft_cross_entropy: multi-hot (B, C), each row divided by its sum, so that
    the classes of a video share its probability. bce: multi-hot, one independent yes or no for each class.
    smoothing moves that share of the target to all classes alike (towards one half for bce). weights: of each
    class in the loss, (C,), none for equal ones; the mean stays one over the clips.
    """
    if weights:
        return _weighted(loss, smoothing, torch.tensor(weights))

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


def _weighted(loss: Loss, smoothing: float, weights: Tensor) -> LossFunction:
    """A loss whose classes count differently; a clip counts as its target does, a yes or no as its class."""

    def weighted(logits: Tensor, labels: Tensor) -> Tensor:
        scale = weights.to(logits.device)
        if loss == "cross_entropy":
            each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
            return (each * scale[labels]).mean()
        if loss == "soft_cross_entropy":
            target = labels.float() / labels.sum(1, keepdim=True).clamp(min=1)
            each = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
            return (each * (target @ scale)).mean()
        target = labels.float() * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, target, weight=scale.expand_as(logits))

    return weighted


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """A weight for each class, inverse to its number of videos; their mean over the videos is 1."""
    there = [count for count in counts if count]
    return tuple(sum(there) / (len(there) * max(count, 1)) for count in counts)


def clips_of(frames: Frames) -> Frames:
    """Each view as a clip of its own: bytes (B*V, T, S, S, C), or (T, S, S, C) of each."""
    return frames.flatten(0, 1) if isinstance(frames, Tensor) else [clip for own in frames for clip in own]


def clip_of(model: VideoModel, batch: ClipBatch) -> tuple[Any, Tensor]:
    """What the model reads of a training batch, on its device, and the label of each clip.

    Every view of a video is a clip of its own with the video's labels.
    """
    clips = clips_of(batch.frames)
    device = next(model.parameters()).device
    labels = batch.labels.repeat_interleave(len(clips) // len(batch.frames), 0)
    return model.prepare(clips, device), labels.to(device)


@dataclass(frozen=True)
class Classification:
    """The objective of `fit` for a model that turns a clip into logits."""

    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.0
    weights: tuple[float, ...] = ()  # of the classes, none for equal ones

    def __call__(self, model: VideoModel, batch: ClipBatch) -> dict[str, Tensor]:
        """The mean loss over the batch, and for single labels the share of correct ones, `top1`."""
        clips, labels = clip_of(model, batch)
        logits = model(clips).float()
        values = {"loss": loss_function(self.loss, self.label_smoothing, self.weights)(logits, labels)}
        if self.loss == "cross_entropy":
            values["top1"] = (logits.argmax(1) == labels).float().mean()
        return values
