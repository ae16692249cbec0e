"""What the AdaFocus family shares: a glance at frames, a closer look at patches, an answer each frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from foveate.backbones.build import FrameNet
from foveate.clip import ClipSpec
from foveate.layers.fold import fold_time
from foveate.layers.head import pool_space
from foveate.layers.shrink import shrink
from foveate.layers.steps import MeanClassifier, RecurrentClassifier, RunningMaxClassifier
from foveate.models.base import VideoModel

Order = Literal["time", "coarse_to_fine"]
StepClassifier = RecurrentClassifier | MeanClassifier | RunningMaxClassifier


class Glance(NamedTuple):
    """What f_G found. maps: (B, T, C, h, w). features: (B, T, C), pooled over space."""

    maps: Tensor
    features: Tensor


@dataclass(frozen=True)
class FocusTrace:
    """Where a model looked and what it said, frame by frame in the order read.

    logits: (B, classes), its answer. step_logits: (B, T, classes), after each frame. corners: (B, T, 2), row
    and column of the patch in pixels of the clip. patch: its side. looked: (B, T), whether the local network
    ran. order: (T,), the place in the clip of each frame read. steps: (B,), frames read before the answer.
    """

    logits: Tensor
    step_logits: Tensor
    corners: Tensor
    patch: int
    looked: Tensor
    order: Tensor
    steps: Tensor

    @property
    def read(self) -> Tensor:
        """(B, T), whether a frame was read at all; places are those of the clip."""
        read = torch.empty(self.looked.shape, dtype=torch.bool)
        read[:, self.order.cpu()] = torch.arange(read.shape[1]) < self.steps.cpu().unsqueeze(1)
        return read

    @property
    def looks(self) -> Tensor:
        """(B,), how often the local network ran; with `steps` what a video cost (measure/focus_cost.py)."""
        return self.looked.sum(1).cpu()


class FocusModel(VideoModel):
    """A glance network f_G, a local network f_L and a classifier f_C that answers after every frame.

    Any network with maps can be either. The two linear heads read one network alone: they start its training
    (stage 0) or support it (AdaFocusV2's auxiliary losses).
    """

    head_names = ("glance_head.", "local_head.", "classifier.linear.", "classifier.heads.")

    def __init__(
        self, glance: FrameNet, local: FrameNet, classifier: StepClassifier, spec: ClipSpec, config: Any
    ) -> None:
        super().__init__()
        self.glance = glance
        self.local = local
        self.classifier = classifier
        self.glance_head = nn.Linear(glance.channels, config.num_classes)
        self.local_head = nn.Linear(local.channels, config.num_classes)
        self.spec = spec
        self.config = config

    @property
    def num_classes(self) -> int:
        return self.glance_head.out_features

    @property
    def skips(self) -> bool:
        """Whether the local network is left out of some frames."""
        return False

    def set_exits(self, exits: tuple[float, ...]) -> None:
        """Stop reading at these probabilities of the best class, one for each frame; none: read all."""
        self.config = replace(self.config, exits=exits)
        self.dynamic = self.skips or bool(exits)

    @property
    def room(self) -> int:
        """S - P, pixels that a patch can move."""
        return int(self.config.size - self.config.patch)

    def reset_head(self, num_classes: int) -> None:
        self.glance_head = nn.Linear(self.glance_head.in_features, num_classes)
        self.local_head = nn.Linear(self.local_head.in_features, num_classes)
        self.classifier.reset(num_classes)
        self.config = replace(self.config, num_classes=num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, S, S). Returns the logits after the last frame, (B, classes)."""
        logits: Tensor = self.trace(clip).logits
        return logits

    def in_order(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """The clip in the order in which it is read, and the place of each frame in time, (T,)."""
        frames = clip.shape[2]
        if self.config.order == "time":
            return clip, torch.arange(frames)
        order = torch.tensor(coarse_to_fine(frames))
        return clip[:, :, order.to(clip.device)], order

    def glance_at(self, clip: Tensor) -> Glance:
        """Run f_G on all frames, shrunk to the glance size. clip: (B, 3, T, S, S)."""
        frames = shrink(fold_time(clip), self.config.glance_size)  # (B*T, 3, G, G)
        maps = self.glance(frames, clip.shape[2])  # (B*T, C, h, w)
        split = (clip.shape[0], clip.shape[2])
        return Glance(maps.unflatten(0, split), self.pool(maps).unflatten(0, split))

    def patch_features(self, patches: Tensor) -> Tensor:
        """f_L and its pool. patches: (N, 3, P, P). Returns (N, F)."""
        return self.pool(self.local(patches, 1))

    def pool(self, maps: Tensor) -> Tensor:
        """Over space: (N, C, h, w) to (N, C)."""
        return pool_space(maps, self.config.pool)

    def classify(self, seen: Tensor, local: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f_C on [glance, local] features, (B, T, C) and (B, T, F): logits (B, T, classes) and its state."""
        answer: tuple[Tensor, Tensor] = self.classifier(torch.cat([seen, local], dim=-1), state)
        return answer


class GlanceAlone(nn.Module):
    """The glance network of a model with its own head: the logits of the frames averaged."""

    def __init__(self, model: FocusModel) -> None:
        super().__init__()
        self.model = model
        self.spec = model.spec

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, S, S). Returns logits (B, classes)."""
        logits: Tensor = self.model.glance_head(self.model.glance_at(clip).features).mean(1)
        return logits


def coarse_to_fine(frames: int) -> list[int]:
    """The middle frame, the first, the last, then the middles of ever finer halves (AdaFocusV2).

    Each of the early frames tells as much of the whole clip as it can, which helps who stops early.
    """
    order = list(dict.fromkeys([(frames - 1) // 2, 0, frames - 1]))
    edges = sorted(order)
    while len(order) < frames:
        middles = [(a + b) // 2 for a, b in pairwise(edges) if b - a > 1]
        order += middles
        edges = sorted(edges + middles)
    return order
