"""Uni-AdaFocus for long videos: a box for every glance, and an answer after every close look.

Wang et al., "Uni-AdaFocus", TPAMI 2024 (arXiv 2412.11228), on ActivityNet, FCVID and Mini-Kinetics. The pass
over a clip stands in uni.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate.backbones.build import FrameNet
from foveate.clip import ClipSpec
from foveate.layers.anytime import RunningMaxClassifier
from foveate.layers.fold import fold_time
from foveate.layers.pool import pool_space
from foveate.layers.shrink import shrink
from foveate.models.adafocus.config import FocusNetworks
from foveate.models.adafocus.seen import Glance
from foveate.models.adafocus.uni import Memory, UniModel
from foveate.models.adafocus.uni_config import UniChoices


@dataclass(frozen=True)
class UniAdaFocusConfig(FocusNetworks, UniChoices):
    """Uni-AdaFocus for long videos (ActivityNet, FCVID, Mini-Kinetics)."""

    dropout: float = 0.2  # in front of every head of the classifier
    aux_dropout: float = 0.2  # in front of the heads that read one network alone
    classifier_width: int = 4096  # of f_C, for each of the two networks
    exit_group: int = 1  # close looks between two decisions; 1 as in the paper, 2 to 4 are quicker

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choices(self.local_frames + 1, self.exit_group)

    def build(self) -> UniAdaFocus:
        """The untrained model."""
        glance, local = self.networks()
        return UniAdaFocus(glance, local, self.clip_spec(self.candidates, glance), self)


class UniAdaFocus(UniModel):
    """Uni-AdaFocus for long videos: a box for every glance, an answer after every close look.

    The classifier keeps the largest activation of the glances and that of the looks so far; the answer after
    look k reads both, the looks' before the glances'.
    """

    parts = ("glance_at", "temporal_policy", "spatial_policy", "local_features", "know_glance", "know_looks")
    head_names = (*UniModel.head_names, "glance_classifier.heads.", "local_classifier.heads.")
    glance_answers_by, looks_answer_by = ("glance_classifier",), ("local_classifier",)
    glances_alone, detached = True, False
    config: UniAdaFocusConfig

    def __init__(self, glance: FrameNet, local: FrameNet, spec: ClipSpec, config: UniAdaFocusConfig) -> None:
        super().__init__(glance.channels, config.glance_side, 1, spec, config)
        classes, width, share = config.num_classes, config.classifier_width, config.dropout
        self.glance, self.local, self.local_channels = glance, local, local.channels
        self.glance_classifier = RunningMaxClassifier(
            glance.channels, classes, config.glance_frames, width, share
        )
        self.local_classifier = RunningMaxClassifier(
            local.channels, classes, config.local_frames, width, share, beside=width
        )
        self.glance_aux = AuxiliaryHead(glance.channels, classes, config.aux_dropout)
        self.local_aux = AuxiliaryHead(local.channels, classes, config.aux_dropout)

    @property
    def answers_after(self) -> tuple[int, ...]:
        return tuple(range(self.config.local_frames + 1))

    @property
    def looks_at_once(self) -> int:
        return self.config.exit_group

    def reset_head(self, num_classes: int) -> None:
        self.glance_classifier.reset(num_classes)
        self.local_classifier.reset(num_classes)
        share = self.config.aux_dropout
        self.glance_aux = AuxiliaryHead(self.glance.channels, num_classes, share)
        self.local_aux = AuxiliaryHead(self.local.channels, num_classes, share)
        super().reset_head(num_classes)

    def glance_at(self, clip: Tensor) -> Glance:
        frames = shrink(fold_time(clip), self.config.glance_size)  # (B*T, 3, G, G)
        maps, split = self.glance(frames, clip.shape[2]), (clip.shape[0], clip.shape[2])
        return Glance(maps.unflatten(0, split), pool_space(maps, self.config.pool).unflatten(0, split))

    def local_features(self, patches: Tensor, frames: int) -> Tensor:
        return pool_space(self.local(patches, frames), self.config.pool)

    def know_glance(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Largest activations up to each glance, (B, T, width), and of all, (B, width)."""
        return self.glance_classifier.accumulate(features)

    def know_looks(self, features: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same of the close looks (B, k, F), after others."""
        return self.local_classifier.accumulate(features, before)

    def remember(self, glance: Glance) -> Memory:
        return (self.know_glance(glance.features)[1],)

    def answer_glance(self, glance: Glance, memory: Memory) -> Tensor:
        last = self.config.glance_frames - 1  # its head
        return self.glance_classifier.answer(memory[0].unsqueeze(1), last)

    def accumulate(self, memory: Memory, local: Tensor) -> tuple[Tensor, Memory]:
        top, *before = memory
        known, last = self.know_looks(local, *before)
        return torch.cat([known, top.unsqueeze(1).expand_as(known)], -1), (top, last)

    def answer_known(self, known: Tensor, first: int = 0) -> Tensor:
        return self.local_classifier.answer(known, first)

    def answers(self, glance: Glance, *looks: Tensor) -> list[Tensor]:
        known, top = self.know_glance(glance.features)
        after_glances = self.glance_classifier.answer(known)
        return [torch.cat([after_glances, self.answer_looks((top,), local)[0]], 1) for local in looks]

    def auxiliary(self, logits: Tensor) -> Tensor:
        return logits


class AuxiliaryHead(nn.Linear):
    """A linear layer with dropout in front of it, on the features of one network."""

    def __init__(self, features: int, classes: int, dropout: float) -> None:
        super().__init__(features, classes)
        self.dropout = dropout

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(input, self.dropout, self.training))
