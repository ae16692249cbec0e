"""AdaFocusV2: the patch position is a real number, so everything trains together by the gradient.

The policy gives continuous fractions, the patch is sampled bilinearly and carries the gradient back to them
(Wang et al., "AdaFocus V2: End-to-End Training of Spatial Dynamic Networks for Video Recognition", CVPR
2022, section 3). The classifier keeps the largest activation of the frames so far and has a head for each
step. Three tricks of its training need the outputs of `look`: auxiliary heads on both networks, the same
frames once more with random patches, and a policy that reads detached glances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from foveate.backbones.build import STRIDES, Backbone2D, FrameNet, Stem, build_backbone, map_side
from foveate.backbones.resnet2d import Strides
from foveate.clip import ClipSpec
from foveate.layers.fold import fold_time
from foveate.layers.patch import sample_patches
from foveate.layers.policy import SmoothPolicy
from foveate.layers.steps import RecurrentClassifier, RunningMaxClassifier
from foveate.models.adafocus import check_sizes, focus_spec
from foveate.models.early_exit import check_exits, read_until_sure
from foveate.models.focus import FocusModel, FocusTrace, Glance, Order


@dataclass(frozen=True)
class AdaFocusV2Config:
    glance: Backbone2D = "mobilenetv2"  # f_G
    local: Backbone2D = "resnet50"  # f_L
    num_classes: int = 200
    frames: int = 16  # T
    size: int = 224  # S, pixels
    resize: int = 256  # short side before the test crop, pixels
    glance_size: int = 224  # G, pixels
    patch: int = 128  # P, pixels
    exits: tuple[float, ...] = ()  # probability of the best class at which reading stops; none: read all
    classifier: Literal["max", "gru"] = "max"  # f_C: running maximum with a head a step, or V1's GRU
    policy_squeeze: int = 64  # channels of the policy's 1x1 convolution
    policy_width: int = 2048  # of its GRU
    classifier_width: int = 4096  # of f_C
    dropout: float = 0.2
    order: Order = "coarse_to_fine"  # in which frames are read
    pool: Literal["average", "max"] = "average"  # over space
    glance_width: float = 1.0  # multiplier of the channels
    local_width: float = 1.0
    glance_stem: Stem = "large"
    local_stem: Stem = "large"
    glance_strides: Strides = STRIDES  # of a ResNet's stages: smaller ones keep small things apart

    def __post_init__(self) -> None:
        check_sizes(self.size, self.resize, self.glance_size, self.patch)
        check_exits(self.exits, self.frames)

    def build(self) -> AdaFocusV2:
        """The untrained model."""
        glance = build_backbone(self.glance, self.glance_width, self.glance_stem, strides=self.glance_strides)
        local = build_backbone(self.local, self.local_width, self.local_stem)
        side = map_side(self.glance_size, self.glance_stem, self.glance_strides)
        policy = SmoothPolicy(glance.channels, side, self.policy_squeeze, self.policy_width)
        features, width = glance.channels + local.channels, self.classifier_width
        classifier: RunningMaxClassifier | RecurrentClassifier
        if self.classifier == "max":
            classifier = RunningMaxClassifier(features, self.num_classes, self.frames, width, self.dropout)
        else:
            classifier = RecurrentClassifier(features, self.num_classes, width, self.dropout)
        spec = focus_spec(self.frames, self.size, self.resize, glance)
        return AdaFocusV2(glance, policy, local, classifier, spec, self)


@dataclass(frozen=True)
class Looks:
    """What one pass gives to the losses; all logits (B, T, classes).

    step_logits: of the classifier after each frame. glance_logits, local_logits: of the auxiliary heads.
    fractions: (B, T, 2), where the patches were.
    """

    step_logits: Tensor
    glance_logits: Tensor
    local_logits: Tensor
    fractions: Tensor


class AdaFocusV2(FocusModel):
    """Glance, smooth policy, local network on bilinear patches, classifier."""

    config: AdaFocusV2Config

    def __init__(
        self,
        glance: FrameNet,
        policy: SmoothPolicy,
        local: FrameNet,
        classifier: RunningMaxClassifier | RecurrentClassifier,
        spec: ClipSpec,
        config: AdaFocusV2Config,
    ) -> None:
        super().__init__(glance, local, classifier, spec, config)
        self.policy = policy
        self.dropout = torch.nn.Dropout(config.dropout)
        self.dynamic = bool(config.exits)

    def trace(self, clip: Tensor) -> FocusTrace:
        """The answer after every frame and where the model looked. clip: (B, 3, T, S, S)."""
        clip, order = self.in_order(clip)
        if self.config.exits and not self.training:
            return read_until_sure(self.step, clip, order, self.config.exits)
        seen = self.glance_at(clip)
        fractions, _ = self.policy(seen.maps)
        local = self._local(clip, fractions)
        step_logits, _ = self.classify(seen.features, local)
        return self._trace(step_logits, fractions, order)

    def look(self, clip: Tensor, seen: Glance, fractions: Tensor) -> Looks:
        """Local network, classifier and heads at given positions (B, T, 2); clip in the order read."""
        local = self._local(clip, fractions)
        step_logits, _ = self.classify(seen.features, local)
        glance_logits = self.glance_head(self.dropout(seen.features))
        return Looks(step_logits, glance_logits, self.local_head(self.dropout(local)), fractions)

    def step(
        self, frame: Tensor, kept: Sequence[Tensor | None] = ()
    ) -> tuple[FocusTrace, list[Tensor | None]]:
        """One frame of a stream, (B, 3, S, S), and what to pass as `kept` with the next one."""
        policy_state, class_state = kept or (None, None)
        clip = frame.unsqueeze(2)
        seen = self.glance_at(clip)
        fractions, policy_state = self.policy(seen.maps, policy_state)
        logits, class_state = self.classify(seen.features, self._local(clip, fractions), class_state)
        return self._trace(logits, fractions, torch.zeros(1, dtype=torch.long)), [policy_state, class_state]

    def _local(self, clip: Tensor, fractions: Tensor) -> Tensor:
        """(B, T, F) of f_L on the patches."""
        patches = sample_patches(fold_time(clip), fractions.flatten(0, 1), self.config.patch)
        return self.patch_features(patches).unflatten(0, fractions.shape[:2])

    def _trace(self, step_logits: Tensor, fractions: Tensor, order: Tensor) -> FocusTrace:
        looked = torch.ones(fractions.shape[:2], dtype=torch.bool, device=fractions.device)
        steps = torch.full((len(step_logits),), step_logits.shape[1])
        corners = fractions * self.room
        return FocusTrace(step_logits[:, -1], step_logits, corners, self.config.patch, looked, order, steps)
