"""AdaFocusV2: the patch position is a real number, so everything trains together by the gradient.

The policy gives continuous positions, the patch is sampled bilinearly and carries the gradient back to them
(Wang et al., "AdaFocus V2: End-to-End Training of Spatial Dynamic Networks for Video Recognition", CVPR
2022, section 3). The classifier keeps the largest activation of the frames so far and has a head for each
step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers.anytime import RecurrentClassifier, RunningMaxClassifier, run_gru
from foveate.layers.patch import sample_patches
from foveate.layers.shrink import shrink_to_corners
from foveate.models.adafocus.config import FocusConfig
from foveate.models.adafocus.early_exit import check_exits
from foveate.models.adafocus.parts import FocusModel, Order
from foveate.models.adafocus.seen import FocusPass


@dataclass(frozen=True)
class AdaFocusV2Config(FocusConfig):
    policy_squeeze: int = 64
    policy_width: int = 2048
    dropout: float = 0.2
    exits: tuple[float, ...] = ()  # probability of the best class at which reading stops; none: read all
    exit_group: int = 1  # frames read between two decisions; 1 as in the papers, 2 to 4 are quicker
    classifier: Literal["max", "gru"] = "max"  # f_C: running maximum with a head a step, or V1's GRU
    classifier_width: int = 4096  # of f_C
    # how a glance smaller than the frame is made: averaged, or from single pixels, corner onto corner
    shrink: Literal["average", "corners"] = "average"
    order: Order = "coarse_to_fine"  # in which frames are read

    def __post_init__(self) -> None:
        super().__post_init__()
        check_exits(self.exits, self.frames, self.exit_group)

    def build(self) -> AdaFocusV2:
        """The untrained model."""
        glance, local = self.networks()
        policy = SmoothPolicy(glance.channels, self.glance_side, self.policy_squeeze, self.policy_width)
        features, width = glance.channels + local.channels, self.classifier_width
        classifier: RunningMaxClassifier | RecurrentClassifier
        if self.classifier == "max":
            classifier = RunningMaxClassifier(features, self.num_classes, self.frames, width, self.dropout)
        else:
            classifier = RecurrentClassifier(features, self.num_classes, width, self.dropout)
        spec = self.clip_spec(self.frames, glance, short="repeat_last")
        return AdaFocusV2(glance, policy, local, classifier, None, spec, self)


class SmoothPolicy(nn.Module):
    """The policy of AdaFocusV2: tanh and batch norm in the encoder, a continuous position for each frame."""

    def __init__(self, channels: int, side: int, squeeze: int = 64, width: int = 2048) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, squeeze, 1, bias=False),
            nn.BatchNorm2d(squeeze),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(squeeze * side * side, width),
            nn.BatchNorm1d(width),
            nn.Tanh(),
        )
        self.gru = nn.GRU(width, width, batch_first=True)
        self.position = nn.Linear(width, 2)

    def forward(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """maps: (B, T, C, h, w), detached inside. Returns positions (B, T, 2) in [0, 1] and the state."""
        encoded = self.encoder(maps.detach().flatten(0, 1)).unflatten(0, maps.shape[:2])
        hidden, state = run_gru(self.gru, encoded, state)
        return torch.sigmoid(self.position(hidden)), state


class AdaFocusV2(FocusModel):
    """Glance, smooth policy, local network on bilinear patches, classifier."""

    config: AdaFocusV2Config

    def shrink(self, images: Tensor) -> Tensor:
        if self.config.shrink == "corners":
            return shrink_to_corners(images, self.config.glance_size)
        return super().shrink(images)

    def choose_place(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Corners (B, T, 2) in real pixels; they carry the gradient of the patches to the policy."""
        fractions, state = self.policy(maps, state)
        return fractions.float() * self.config.room, state

    def cut(self, images: Tensor, corners: Tensor) -> Tensor:
        return sample_patches(images, corners, self.config.patch)

    def random_corners(self, batch: int, frames: int) -> Tensor:
        return torch.rand(batch, frames, 2) * self.config.room

    def auxiliary(self, seen: FocusPass) -> list[Tensor]:
        """What each network alone answers to each frame, (B, T, classes), for the loss that supports it."""
        share = self.config.dropout
        glance, local = F.dropout(seen.glance.features, share), F.dropout(seen.local, share)
        return [self.glance_head(glance), self.local_head(local)]
