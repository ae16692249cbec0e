"""Stage 2 of AdaFocus: policies try what they may do, and what pays becomes likelier.

A player lets a policy choose in a batch of clips and rewards the choices (`play`, `play_skips`); `Rollouts`
makes played batches out of batches of clips; `PolicyObjective` is the PPO update that the common loop takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.layers.patch import grid_corners, random_corners
from foveate.layers.policy import RecurrentPolicy
from foveate.layers.steps import RunningMaxClassifier
from foveate.models.adafocus import AdaFocus
from foveate.models.focus import Glance
from foveate.train.objective import ClipBatch
from foveate.train.ppo import PPOConfig, discounted_returns, normalised, ppo_loss

Reward = Literal["random", "prev", "conf"]


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


@dataclass(frozen=True)
class Unplayed:
    """A batch with too few readable clips to learn from, which the loop passes over."""

    bad: tuple[object, ...] = ()
    labels: Tensor = field(default_factory=lambda: torch.empty(0))


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


Player = Callable[[ClipBatch], Rollout]


@dataclass(frozen=True)
class Rollouts:
    """Batches of clips played by the present policy, each learnt from once (K = 1 of PPO).

    batches: (epoch, start) -> clips. least: clips from which the policy can learn; a batch with fewer, whose
    files are bad, is not played. The random choices of batch b of epoch e depend on (seed, e, b) alone, so a
    resumed run plays the same. Policies choose in the modes in which they learn: with the batch's own
    statistics, if they have batch norms.
    """

    batches: Callable[[int, int], Iterable[ClipBatch]]
    play: Player
    seed: int
    least: int = 1

    def __call__(self, epoch: int, start: int) -> Iterator[Rollout | Unplayed]:
        for number, batch in enumerate(self.batches(epoch, start), start):
            yield self._played(batch, hash((self.seed, epoch, number)) % 2**63)

    def _played(self, batch: ClipBatch, seed: int) -> Rollout | Unplayed:
        if len(batch.labels) < self.least:
            return Unplayed(tuple(getattr(batch, "bad", ())))
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            return self.play(batch)
