"""The stages of AdaFocus-TSM as objectives of the common loop: logits added, one patch a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.models.adafocus_tsm import AdaFocusTSM
from foveate.train.focus import clip_of
from foveate.train.objective import ClipBatch, LossFunction
from foveate.train.ppo import PPOConfig, normalised, ppo_loss
from foveate.train.rollouts import Reward, Rollout, confidence


@dataclass(frozen=True)
class ClipGlanceWarmup:
    """AdaFocus-TSM, stage 0a: the shifted glance with its own head; logits averaged."""

    loss: LossFunction

    def __call__(self, model: AdaFocusTSM, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        maps, _ = model.glance_at(frame_sets(model, clip)[0])
        logits = model.glance_head(F.dropout(model.pool(maps), model.config.dropout))
        return {"loss": self.loss(logits.mean(1).float(), labels)}


@dataclass(frozen=True)
class ClipLocalWarmup:
    """AdaFocus-TSM, stage 0b: the shifted patch network with its own head on whole frames."""

    loss: LossFunction

    def __call__(self, model: AdaFocusTSM, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        features = model.patch_features(frame_sets(model, clip)[1])
        logits = model.local_head(F.dropout(features, model.config.dropout))
        return {"loss": self.loss(logits.mean(1).float(), labels)}


@dataclass(frozen=True)
class ClipPatchTraining:
    """AdaFocus-TSM, stages 1 and 3: loss of the summed logits, one patch a video.

    patches: random, with dropout (stage 1), or by the policy, without (stage 3).
    """

    loss: LossFunction
    patches: Literal["random", "policy"]

    def __call__(self, model: AdaFocusTSM, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        glance_clip, local_clip = frame_sets(model, clip)
        with torch.no_grad():
            maps, glance_logits = model.glance_at(glance_clip)
            random = self.patches == "random"
            fractions = torch.rand(len(clip), 2, device=clip.device) if random else model.choose(maps)
        features = model.patch_features(model.cut(local_clip, fractions))
        local_logits = model.local_head(F.dropout(features, model.config.dropout if random else 0.0))
        return {"loss": self.loss((glance_logits.mean(1) + local_logits.mean(1)).float(), labels)}


def frame_sets(model: AdaFocusTSM, clip: Tensor) -> tuple[Tensor, Tensor]:
    """The frames of the glance and of the local network."""
    glanced, looked = model.places(clip.shape[2])
    return clip[:, :, glanced], clip[:, :, looked]


def play_clip(
    model: AdaFocusTSM, clip: Tensor, target: Tensor, reward: Reward = "random", bad: Sequence[object] = ()
) -> Rollout:
    """AdaFocus-TSM's policy tries one position a video.

    reward: the gain over a random position, or the confidence itself; with one position a video nothing
    comes before it, so "prev" is the confidence as well.
    """
    assert model.policy is not None
    glance_clip, local_clip = frame_sets(model, clip)
    maps, glance_logits = model.glance_at(glance_clip)
    choice = clip_choice(model, model.policy(maps)[0])
    positions = choice.sample().clamp(0, 1)  # (B, 2)

    def answered(fractions: Tensor) -> Tensor:
        logits = glance_logits.mean(1) + model.look_at(local_clip, fractions).mean(1)
        return confidence(logits.unsqueeze(1), target)  # (B, 1)

    rewards = answered(positions)
    if reward == "random":
        rewards = rewards - answered(torch.rand_like(positions))
    log_probs = choice.log_prob(positions).sum(-1, keepdim=True)
    return Rollout(maps, positions, log_probs, normalised(rewards), rewards, target, tuple(bad))


def clip_choice(model: AdaFocusTSM, mean: Tensor) -> torch.distributions.Normal:
    """The positions that training tries around the mean (B, 2)."""
    return torch.distributions.Normal(mean, model.config.spread)


@dataclass(frozen=True)
class ClipPolicyObjective:
    """One PPO update of AdaFocus-TSM's policy; its entropy is constant and earns nothing."""

    config: PPOConfig

    def __call__(self, model: AdaFocusTSM, batch: Rollout) -> dict[str, Tensor]:
        assert model.policy is not None
        mean, value = model.policy(batch.maps)
        log_probs = clip_choice(model, mean).log_prob(batch.actions).sum(-1, keepdim=True)
        none = torch.zeros_like(log_probs)
        loss = ppo_loss(log_probs, batch.log_probs, value.unsqueeze(-1), batch.returns, none, self.config)
        return {"loss": loss, "reward": batch.rewards.mean()}
