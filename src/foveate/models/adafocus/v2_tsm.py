"""AdaFocusV2 on TSM: one position for the clip, learnt by the gradient through the patch.

Wang et al., "AdaFocus V2", CVPR 2022, on Something-Something and Jester. The answer adds the mean logits of
both networks, from detached features; what trains the networks, and through the patches the policy, are
second, auxiliary heads. Where this code differs: both frame sets come out of one clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveate.layers.patch import sample_patches
from foveate.models.adafocus.clip_focus import ClipFocusConfig, ClipFocusModel
from foveate.models.adafocus.seen import FocusPass


@dataclass(frozen=True)
class AdaFocusV2TSMConfig(ClipFocusConfig):
    def build(self) -> AdaFocusV2TSM:
        """The untrained model."""
        glance, local = self.clip_networks()
        policy = SmoothClipPolicy(*self.policy_size(glance))
        return AdaFocusV2TSM(glance, policy, local, None, None, self.clip_spec(self.frames, glance), self)


class SmoothClipPolicy(nn.Module):
    """One continuous position for a clip, from the glance maps of all its frames together."""

    def __init__(self, channels: int, frames: int, side: int, squeeze: int = 64, width: int = 1024) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels * frames, squeeze, 1, bias=False),
            nn.BatchNorm2d(squeeze),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(squeeze * side * side, width),
            nn.BatchNorm1d(width),
            nn.Tanh(),
            nn.Linear(width, half),
            nn.BatchNorm1d(half),
            nn.Tanh(),
            nn.Linear(half, 2),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """maps: (B, T, C, h, w), detached inside. Returns positions (B, 2) in [0, 1], row and column."""
        return torch.sigmoid(self.encoder(maps.detach().flatten(1, 2)))


class AdaFocusV2TSM(ClipFocusModel):
    """Shifted glance, smooth policy, shifted local network on a bilinear patch."""

    config: AdaFocusV2TSMConfig
    head_names = (*ClipFocusModel.head_names, "glance_aux.", "local_aux.")
    glance_aux: nn.Linear
    local_aux: nn.Linear

    def __init__(self, *parts: Any) -> None:
        """parts: as of `FocusModel`."""
        super().__init__(*parts)
        self.reset_head(self.num_classes)

    def reset_head(self, num_classes: int) -> None:
        super().reset_head(num_classes)
        self.glance_aux = nn.Linear(self.glance.channels, num_classes)
        self.local_aux = nn.Linear(self.local.channels, num_classes)
        for head in (self.glance_head, self.glance_aux, self.local_head, self.local_aux):
            nn.init.normal_(head.weight, std=0.001)  # as in TSN
            nn.init.zeros_(head.bias)

    def choose_place(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One corner (B, 1, 2) in real pixels; it carries the gradient of the patches to the policy."""
        return self.policy(maps).float().unsqueeze(1) * self.config.room, None

    def cut(self, images: Tensor, corners: Tensor) -> Tensor:
        return sample_patches(images, corners, self.config.patch)

    def random_corners(self, batch: int, frames: int) -> Tensor:
        return torch.rand(batch, 1, 2) * self.config.room

    def classify(
        self, glance: Tensor, local: Tensor, state: Tensor | None = None, first: int = 0
    ) -> tuple[Tensor, Tensor]:
        return super().classify(self._dropped(glance.detach()), self._dropped(local.detach()))

    def auxiliary(self, seen: FocusPass) -> list[Tensor]:
        """What each network alone answers, (B, 1, classes), for the loss that trains it."""
        return [
            self.glance_aux(self._dropped(seen.glance.features)).mean(1, keepdim=True),
            self.local_aux(self._dropped(seen.local)).mean(1, keepdim=True),
        ]

    def _dropped(self, features: Tensor) -> Tensor:
        return F.dropout(features, self.config.dropout, self.training)
