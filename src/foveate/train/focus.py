"""The stages of AdaFocus as objectives of the common loop (Wang et al., ICCV 2021, section 3.3).

0  warm up both networks, each with a linear head of its own
1  patch network and classifier learn from random patches; the glance is frozen
2  the policy learns by reinforcement which patch pays (`Rollouts`, `PolicyObjective`)
2+ AdaFocus+: a second policy learns which frames need no patch
3  the classifier is tuned to the patches that the policy picks

Each stage says which parts learn; the rest is frozen and in eval mode. AdaFocusV2 needs one stage only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers.fold import fold_time
from foveate.layers.patch import grid_corners, random_corners
from foveate.layers.policy import RecurrentPolicy
from foveate.layers.steps import RunningMaxClassifier
from foveate.models.adafocus import AdaFocus
from foveate.models.adafocus_tsm import AdaFocusTSM, spread_over
from foveate.models.adafocus_v2 import AdaFocusV2, Looks
from foveate.models.base import VideoModel
from foveate.models.focus import FocusModel, Glance
from foveate.train.objective import ClipBatch, LossFunction
from foveate.train.optim import ParamGroup
from foveate.train.ppo import PPOConfig, discounted_returns, normalised, ppo_loss
from foveate.video.transform import to_clip

Reward = Literal["random", "prev", "conf"]


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
    clip = to_clip(batch.frames.flatten(0, 1), model.spec, device)
    return clip, batch.labels.to(device)


def loss_of_steps(loss: LossFunction, step_logits: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of every frame's answer against the label of the video. step_logits: (B, T, classes)."""
    return loss(step_logits.flatten(0, 1), labels.repeat_interleave(step_logits.shape[1], 0))


@dataclass(frozen=True)
class GlanceWarmup:
    """Stage 0a: the glance with its own head on every frame; logits averaged."""

    loss: LossFunction

    def __call__(self, model: FocusModel, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        logits = model.glance_head(model.glance_at(clip).features)  # (B, T, classes)
        return {"loss": loss_of_steps(self.loss, logits, labels)}


@dataclass(frozen=True)
class LocalWarmup:
    """Stage 0b: the patch network with its own head on whole frames."""

    loss: LossFunction

    def __call__(self, model: FocusModel, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        features = model.patch_features(fold_time(clip)).unflatten(0, (clip.shape[0], clip.shape[2]))
        return {"loss": loss_of_steps(self.loss, model.local_head(features), labels)}


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


class Scene(Protocol):
    """A batch of videos as the frozen networks show it to a policy that is learning."""

    maps: Tensor  # (B, T, C, h, w), of the glance
    seen: Tensor  # (B, T, C), the same pooled
    target: Tensor  # (B, classes), 1 for the true ones

    def local_at(self, actions: Tensor) -> Tensor:
        """Features (B, T, F) of the patches at grid positions (B, T)."""
        ...

    def local_anywhere(self) -> Tensor:
        """Features (B, T, F) of one random patch in every frame."""
        ...


class LiveScene:
    """A scene computed from a clip when it is asked for."""

    def __init__(self, model: AdaFocus, clip: Tensor, target: Tensor) -> None:
        glance: Glance = model.glance_at(clip)
        self.maps, self.seen, self.target = glance.maps, glance.features, target
        self._model, self._clip = model, clip

    def local_at(self, actions: Tensor) -> Tensor:
        model = self._model
        return model.look_at(self._clip, grid_corners(actions, model.config.grid, model.room))

    def local_anywhere(self) -> Tensor:
        batch, frames = self.maps.shape[:2]
        corners = random_corners(batch * frames, self._model.room).to(self.maps.device)
        return self._model.look_at(self._clip, corners.unflatten(0, (batch, frames)))


@dataclass(frozen=True)
class Rollout:
    """What a policy did in a batch and what it got; (B, T) where not said otherwise."""

    maps: Tensor  # (B, T, C, h, w)
    actions: Tensor
    log_probs: Tensor
    returns: Tensor  # normalised over the batch
    rewards: Tensor
    labels: Tensor  # (B, classes); the loop counts clips by it
    bad: tuple[object, ...] = ()


def confidence(logits: Tensor, target: Tensor) -> Tensor:
    """Probability (B, T) that the answers give to the true classes. logits: (B, T, classes)."""
    return (logits.float().softmax(-1) * target.unsqueeze(1)).sum(-1)


def play(
    model: AdaFocus, scene: Scene, reward: Reward, config: PPOConfig, bad: Sequence[object] = ()
) -> Rollout:
    """Let the patch policy choose by its probabilities, and reward what it gained.

    reward: "random", the gain over a random patch in the same frame from the same memory of the classifier
    (the paper's); "prev", the gain over the frame before; "conf", the confidence itself.
    """
    policy, classifier = model.policy, model.classifier
    assert policy is not None and not isinstance(classifier, RunningMaxClassifier)
    choice = torch.distributions.Categorical(logits=policy(scene.maps).logits)
    actions = choice.sample()
    features = torch.cat([scene.seen, scene.local_at(actions)], dim=-1)
    chosen = confidence(classifier(features)[0], scene.target)
    if reward == "random":
        states = classifier.states_before(features)
        other = torch.cat([scene.seen, scene.local_anywhere()], dim=-1)
        rewards = chosen - confidence(classifier.step_from(other, states), scene.target)
    elif reward == "prev":
        rewards = chosen - F.pad(chosen[:, :-1], (1, 0))
    else:
        rewards = chosen
    returns = normalised(discounted_returns(rewards, config.gamma))
    return Rollout(scene.maps, actions, choice.log_prob(actions), returns, rewards, scene.target, tuple(bad))


def play_skips(
    model: AdaFocus, scene: Scene, price: float, config: PPOConfig, bad: Sequence[object] = ()
) -> Rollout:
    """Let the skip policy choose which frames deserve the patch of the finished patch policy (AdaFocus+).

    A look earns the confidence that it adds over zeros in its place, less `price`; a skip earns nothing.
    """
    policy, classifier = model.policy, model.classifier
    assert policy is not None and model.skip_policy is not None
    assert not isinstance(classifier, RunningMaxClassifier)
    choice = torch.distributions.Bernoulli(logits=model.skip_policy(scene.maps).logits.squeeze(-1))
    looks = choice.sample()
    local = scene.local_at(policy(scene.maps).logits.argmax(-1))
    features = torch.cat([scene.seen, local * looks.unsqueeze(-1)], dim=-1)
    states = classifier.states_before(features)
    with_patch = classifier.step_from(torch.cat([scene.seen, local], dim=-1), states)
    without = classifier.step_from(torch.cat([scene.seen, torch.zeros_like(local)], dim=-1), states)
    gain = confidence(with_patch, scene.target) - confidence(without, scene.target)
    rewards = looks * (gain - price)
    returns = normalised(discounted_returns(rewards, config.gamma))
    return Rollout(scene.maps, looks, choice.log_prob(looks), returns, rewards, scene.target, tuple(bad))


@dataclass(frozen=True)
class PolicyObjective:
    """One PPO update of the patch policy, or of the skip policy."""

    config: PPOConfig
    which: Literal["patch", "skip"] = "patch"

    def __call__(self, model: AdaFocus, batch: Rollout) -> dict[str, Tensor]:
        policy = model.policy if self.which == "patch" else model.skip_policy
        assert isinstance(policy, RecurrentPolicy)
        decision = policy(batch.maps)
        choice: torch.distributions.Distribution
        if self.which == "patch":
            choice = torch.distributions.Categorical(logits=decision.logits)
        else:
            choice = torch.distributions.Bernoulli(logits=decision.logits.squeeze(-1))
        log_probs, entropy = choice.log_prob(batch.actions), choice.entropy()
        loss = ppo_loss(log_probs, batch.log_probs, decision.value, batch.returns, entropy, self.config)
        return {"loss": loss, "reward": batch.rewards.mean(), "entropy": entropy.mean().detach()}


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


@dataclass(frozen=True)
class ClipGlanceWarmup:
    """AdaFocus-TSM, stage 0: the shifted glance with its own head; logits averaged."""

    loss: LossFunction

    def __call__(self, model: AdaFocusTSM, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        _, logits = model.glance_at(frame_sets(model, clip)[0])
        return {"loss": self.loss(logits.mean(1).float(), labels)}


@dataclass(frozen=True)
class ClipPatchTraining:
    """AdaFocus-TSM, stages 1 and 3: loss of the summed logits, one patch a video, random or by the policy."""

    loss: LossFunction
    patches: Literal["random", "policy"]

    def __call__(self, model: AdaFocusTSM, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        glance_clip, local_clip = frame_sets(model, clip)
        with torch.no_grad():
            maps, glance_logits = model.glance_at(glance_clip)
            chosen = model.policy(maps)[0] if self.patches == "policy" else None
        fractions = torch.rand(len(clip), 2, device=clip.device) if chosen is None else chosen
        local_logits = model.look_at(local_clip, fractions)
        return {"loss": self.loss((glance_logits.mean(1) + local_logits.mean(1)).float(), labels)}


def frame_sets(model: AdaFocusTSM, clip: Tensor) -> tuple[Tensor, Tensor]:
    """The frames of the glance and of the local network."""
    frames, config = clip.shape[2], model.config
    chosen = (spread_over(frames, count) for count in (config.glance_frames, config.local_frames))
    glance_frames, local_frames = chosen
    return clip[:, :, glance_frames], clip[:, :, local_frames]


def play_clip(model: AdaFocusTSM, clip: Tensor, target: Tensor, bad: Sequence[object] = ()) -> Rollout:
    """AdaFocus-TSM's policy tries one position a video; its reward is the gain over a random position."""
    glance_clip, local_clip = frame_sets(model, clip)
    maps, glance_logits = model.glance_at(glance_clip)
    choice = clip_choice(model, model.policy(maps)[0])
    positions = choice.sample().clamp(0, 1)  # (B, 2)
    answers = [
        glance_logits.mean(1) + model.look_at(local_clip, fractions).mean(1)
        for fractions in (positions, torch.rand_like(positions))
    ]
    chosen, other = (confidence(answer.unsqueeze(1), target) for answer in answers)  # (B, 1)
    rewards = chosen - other
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
        mean, value = model.policy(batch.maps)
        log_probs = clip_choice(model, mean).log_prob(batch.actions).sum(-1, keepdim=True)
        none = torch.zeros_like(log_probs)
        loss = ppo_loss(log_probs, batch.log_probs, value.unsqueeze(-1), batch.returns, none, self.config)
        return {"loss": loss, "reward": batch.rewards.mean()}


Player = Callable[[ClipBatch], Rollout]


@dataclass(frozen=True)
class Rollouts:
    """Batches of clips played by the present policy, each given `repeats` times (PPO's K).

    batches: (epoch, start) -> clips. The random choices of batch b of epoch e depend on (seed, e, b) alone,
    so a resumed run plays the same.
    """

    batches: Callable[[int, int], Iterable[ClipBatch]]
    play: Player
    seed: int
    repeats: int = 1

    def __call__(self, epoch: int, start: int) -> Iterator[Rollout]:
        first = start // self.repeats
        for number, batch in enumerate(self.batches(epoch, first), first):
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(hash((self.seed, epoch, number)) % 2**63)
                rollout = self.play(batch)
            for repeat in range(self.repeats):
                if number * self.repeats + repeat >= start:
                    yield rollout
