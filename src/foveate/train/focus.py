"""The stages of AdaFocus as objectives of the common loop (Wang et al., ICCV 2021, section 3.3).

0  warm up both networks, each with a linear head of its own
1  patch network and classifier learn from random patches; the glance is frozen
2  the policy learns by reinforcement which patch pays (train/rollouts.py)
2+ AdaFocus+: a second policy learns which frames need no patch
3  the classifier is tuned to the patches that the policy picks

Each stage says which parts learn; the rest is frozen and in eval mode. AdaFocusV2 needs one stage only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers.fold import fold_time
from foveate.layers.patch import random_corners
from foveate.models.adafocus import AdaFocus
from foveate.models.adafocus_v2 import AdaFocusV2, Looks
from foveate.models.base import VideoModel
from foveate.models.focus import FocusModel
from foveate.train.objective import ClipBatch, LossFunction, clips_of
from foveate.train.optim import ParamGroup

Answer = Literal["clip", "frames"]
"""What a warm-up judges: the mean logits of a clip (the paper's), or those of each frame."""


def learn_only(model: nn.Module, *parts: tuple[nn.Module, float]) -> list[ParamGroup]:
    """Freeze everything but `parts`, each (module, factor on the learning rate). Returns their groups."""
    model.requires_grad_(False)
    groups = []
    for number, (part, rate) in enumerate(parts):
        part.requires_grad_(True)
        groups.append(ParamGroup(f"part {number}", tuple(part.parameters()), rate))
    return groups


def clip_of(model: VideoModel, batch: ClipBatch) -> tuple[Tensor, Tensor]:
    """The clip of a training batch on the model's device, in the order read, and its labels."""
    device = next(model.parameters()).device
    clip = model.prepare(clips_of(batch.frames), device)
    return clip, batch.labels.to(device)


def loss_of_steps(loss: LossFunction, step_logits: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of every frame's answer against the label of the video. step_logits: (B, T, classes)."""
    return loss(step_logits.flatten(0, 1), labels.repeat_interleave(step_logits.shape[1], 0))


@dataclass(frozen=True)
class GlanceWarmup:
    """Stage 0a: the glance with its own head. of: whose loss, each frame's or that of their mean logits."""

    loss: LossFunction
    of: Answer = "frames"

    def __call__(self, model: FocusModel, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        logits = model.glance_head(model.glance_at(clip).features)  # (B, T, classes)
        return {"loss": _loss_of(self.of, self.loss, logits, labels)}


@dataclass(frozen=True)
class LocalWarmup:
    """Stage 0b: the patch network with its own head on whole frames. of: as above."""

    loss: LossFunction
    of: Answer = "frames"

    def __call__(self, model: FocusModel, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        features = model.patch_features(fold_time(clip)).unflatten(0, (clip.shape[0], clip.shape[2]))
        return {"loss": _loss_of(self.of, self.loss, model.local_head(features), labels)}


def _loss_of(answer: Answer, loss: LossFunction, logits: Tensor, labels: Tensor) -> Tensor:
    return loss(logits.mean(1), labels) if answer == "clip" else loss_of_steps(loss, logits, labels)


@dataclass(frozen=True)
class PatchTraining:
    """Stages 1 and 3: loss of the answer after every frame, patches random or by the policy.

    glance_dropout: share of glance features dropped, so that the classifier reads the patches as well.
    skip: share of frames whose patch is left out (zeros), so that the classifier knows skipped frames.
    obey: whether the skip policy, if there is one, has its say as well.
    """

    loss: LossFunction
    patches: Literal["random", "policy"]
    glance_dropout: float = 0.0
    skip: float = 0.0
    obey: bool = True

    def __call__(self, model: AdaFocus, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        clip, _ = model.in_order(clip)
        with torch.no_grad():
            seen = model.glance_at(clip)
            corners, looked = self._where(model, seen.maps)
        local = model.look_at(clip, corners, looked)
        features = F.dropout(seen.features, self.glance_dropout)
        step_logits, _ = model.classify(features, local)
        return {"loss": loss_of_steps(self.loss, step_logits.float(), labels)}

    def _where(self, model: AdaFocus, maps: Tensor) -> tuple[Tensor, Tensor]:
        batch, frames = maps.shape[:2]
        looked = torch.rand(batch, frames, device=maps.device) >= self.skip
        if self.patches == "random":
            corners = random_corners(batch * frames, model.room).to(maps.device)
            return corners.unflatten(0, (batch, frames)), looked
        return model.choose(maps), looked & model.choose_frames(maps) if self.obey else looked


@dataclass(frozen=True)
class Together:
    """AdaFocusV2's single stage: all networks, auxiliary heads, random patches beside the chosen ones.

    auxiliary, diverse: whether the first two tricks are on; the third, a policy that reads detached glances,
    is part of the policy.
    """

    loss: LossFunction
    auxiliary: bool = True
    diverse: bool = True

    def __call__(self, model: AdaFocusV2, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        clip, _ = model.in_order(clip)
        seen = model.glance_at(clip)
        fractions, _ = model.policy(seen.maps)
        loss = self._loss(model.look(clip, seen, fractions.float()), labels)
        if self.diverse:
            loss = (loss + self._loss(model.look(clip, seen, torch.rand_like(fractions.float())), labels)) / 2
        return {"loss": loss}

    def _loss(self, looks: Looks, labels: Tensor) -> Tensor:
        answers = [looks.step_logits]
        if self.auxiliary:
            answers += [looks.glance_logits, looks.local_logits]
        return torch.stack([loss_of_steps(self.loss, answer.float(), labels) for answer in answers]).sum()
