"""What the stages of the AdaFocus family teach, as objectives of the common loop (ICCV 2021, section 3.3).

0  warm up both networks, each with a linear head of its own
1  patch network and classifier learn from random patches; the glance is frozen
2  the policy learns by reinforcement which patch pays
2+ AdaFocus+: a second policy learns which frames need no patch
3  the classifier is tuned to the patches that the policy picks

Each stage says which parts learn; the rest is frozen and in eval mode. AdaFocusV2 needs one stage only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.layers.fold import fold_time
from foveate.models.adafocus.parts import FocusModel, given
from foveate.models.adafocus.seen import FocusFeatures, FocusPass, Glance
from foveate.models.adafocus.v1 import AdaFocus
from foveate.models.adafocus.v2 import AdaFocusV2
from foveate.models.adafocus.v2_tsm import AdaFocusV2TSM
from foveate.models.base import VideoModel, rows_at_once
from foveate.train.kept import KeptBatch
from foveate.train.objective import ClipBatch, LossFunction, clip_of
from foveate.train.ppo import PPOConfig, discounted_returns, normalised, ppo_loss

Answer = Literal["clip", "frames"]
"""Whose loss a warm-up takes: that of the mean logits of a clip (the paper's), or of each frame's."""
Reward = Literal["random", "prev", "conf"]


def see(model: FocusModel, batch: Any) -> tuple[FocusFeatures, Tensor]:
    """What the networks find in a batch, and its labels. A batch may bring what frozen ones found."""
    if isinstance(batch, FeatureBatch):
        return batch.features, batch.labels
    if isinstance(batch, KeptBatch):
        return TableFeatures(cast(AdaFocus, model), batch.values), batch.labels
    clip, labels = clip_of(model, batch)
    return model.see(clip), labels


@dataclass(frozen=True)
class FeatureBatch:
    """A batch whose features are there already, kept from networks that do not learn any more."""

    features: FocusFeatures
    labels: Tensor  # (B,) class indices, or (B, C) of 0 and 1
    bad: tuple[object, ...] = ()


def keep_table(model: AdaFocus, clip: Tensor) -> dict[str, Tensor]:
    """What both networks find in a clip, the local one at every position of the grid: for `TableFeatures`."""
    images, (batch, frames) = fold_time(clip), (clip.shape[0], clip.shape[2])
    positions = torch.arange(model.config.grid**2, device=clip.device)
    found: list[Tensor] = []
    for some in positions.split(rows_at_once(positions, len(images) * model.config.patch**2)):
        corners = (corner.expand(len(images), 2) for corner in model.corners_of(some))
        patches = torch.cat([model.cut(images, each) for each in corners])
        found += model.local_features(patches, frames).unflatten(0, (len(some), batch, frames))
    glance = model.glance_in_turn(clip)
    return {"maps": glance.maps, "features": glance.features, "table": torch.stack(found, 2)}


class TableFeatures:
    """`FocusFeatures` out of kept rows, those of patches at the positions of the grid (B, T, A, F)."""

    def __init__(self, model: AdaFocus, values: Mapping[str, Tensor]) -> None:
        self._model, self._values = model, values

    def glance(self) -> Glance:
        return Glance(self._values["maps"], self._values["features"])

    def local(self, corners: Tensor, looked: Tensor | None = None) -> Tensor:
        config, table = self._model.config, self._values["table"]
        room = max(config.room, 1)
        cells = (corners * (config.grid - 1) + room - 1) // room  # the inverse of `grid_corners`
        actions = (cells[..., 0] * config.grid + cells[..., 1]).expand(table.shape[:2])
        found = table.gather(2, actions[..., None, None].expand(-1, -1, 1, table.shape[-1])).squeeze(2)
        return found if looked is None else found * looked.unsqueeze(-1)

    def random_corners(self) -> Tensor:
        table = self._values["table"]
        positions = torch.randint(table.shape[2], table.shape[:2])  # drawn alike on every device
        return self._model.corners_of(positions.to(table.device))


def loss_of_steps(loss: LossFunction, step_logits: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of every frame's answer against the label of the video. step_logits: (B, T, classes)."""
    return loss(step_logits.flatten(0, 1).float(), labels.repeat_interleave(step_logits.shape[1], 0))


@dataclass(frozen=True)
class Warmup:
    """Stage 0: one network with its own head; the patch network sees whole frames.

    of: whose loss, each frame's or that of their mean logits. dropout: share of features, in front of it.
    """

    loss: LossFunction
    network: Literal["glance", "local"]
    of: Answer = "frames"
    dropout: float = 0.0

    def __call__(self, model: FocusModel, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        seen, glance = model.see(clip), self.network == "glance"
        features = F.dropout(seen.glance().features if glance else seen.whole_frames(), self.dropout)
        logits = (model.glance_head if glance else model.local_head)(features)  # (B, T, classes)
        if self.of == "clip":
            return {"loss": self.loss(logits.mean(1).float(), labels)}
        return {"loss": loss_of_steps(self.loss, logits, labels)}


@dataclass(frozen=True)
class DroppedFeatures:
    """`FocusFeatures` of which a share is dropped at random: of the glance, and of the patches."""

    whole: FocusFeatures
    glance_dropout: float = 0.0
    local_dropout: float = 0.0

    def glance(self) -> Glance:
        maps, features = self.whole.glance()
        return Glance(maps, F.dropout(features, self.glance_dropout))

    def local(self, corners: Tensor, looked: Tensor | None = None) -> Tensor:
        return F.dropout(self.whole.local(corners, looked), self.local_dropout)

    def random_corners(self) -> Tensor:
        return self.whole.random_corners()


@dataclass(frozen=True)
class PatchTraining:
    """Stages 1 and 3: loss of the answer after every frame, patches random or by the policy.

    glance_dropout, local_dropout: share of features dropped; without some glances the classifier reads the
    patches as well. skip: share of frames whose patch is left out (zeros), so that the classifier knows
    skipped frames. obey: whether the skip policy, if there is one, has its say as well.
    """

    loss: LossFunction
    patches: Literal["random", "policy"]
    glance_dropout: float = 0.0
    skip: float = 0.0
    obey: bool = True
    local_dropout: float = 0.0

    def __call__(self, model: FocusModel, batch: Any) -> dict[str, Tensor]:
        whole, labels = see(model, batch)
        features = DroppedFeatures(whole, self.glance_dropout, self.local_dropout)
        place = given(features.random_corners()) if self.patches == "random" else None

        def look(maps: Tensor, state: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
            wish = model.choose_look(maps)[0] if self.patches == "policy" and self.obey else None
            if not self.skip:
                return wish, None
            kept = torch.rand(maps.shape[:2], device=maps.device) >= self.skip
            return kept if wish is None else kept & wish, None

        return {
            "loss": loss_of_steps(self.loss, model.focus(features, None, place, look).step_logits, labels)
        }


@dataclass(frozen=True)
class EndToEndObjective:
    """The single stage of AdaFocusV2: all networks, auxiliary heads, random patches beside the chosen ones.

    auxiliary, diverse: whether the first two tricks are on; the third, a policy that reads detached glances,
    is part of the policy.
    """

    loss: LossFunction
    auxiliary: bool = True
    diverse: bool = True

    def __call__(self, model: AdaFocusV2 | AdaFocusV2TSM, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        features = model.see(clip)
        loss = self._loss(model, model.focus(features), labels)
        if self.diverse:
            anywhere = model.focus(features, place=given(features.random_corners()))
            loss = (loss + self._loss(model, anywhere, labels)) / 2
        return {"loss": loss}

    def _loss(self, model: AdaFocusV2 | AdaFocusV2TSM, seen: FocusPass, labels: Tensor) -> Tensor:
        answers = [seen.step_logits]
        if self.auxiliary:
            answers += model.auxiliary(seen)
        return torch.stack([loss_of_steps(self.loss, answer, labels) for answer in answers]).sum()


# ---- stage 2: policies try what they may do, and what pays becomes likelier


@dataclass(frozen=True)
class Rollout:
    """What a policy did in a batch and what it got; (B, K) where not said otherwise, K decisions a video."""

    maps: Tensor  # (B, T, C, h, w), what it saw
    actions: Tensor  # (B, K), or (B, K, 2) of positions
    log_probs: Tensor
    returns: Tensor  # normalised over the batch
    rewards: Tensor
    labels: Tensor  # (B, classes); the loop counts clips by it
    bad: tuple[object, ...] = ()


@dataclass(frozen=True)
class EmptyBatch:
    """A batch with too few readable clips to learn from, which the loop passes over."""

    bad: tuple[object, ...] = ()
    labels: Tensor = field(default_factory=lambda: torch.empty(0))


def confidence(logits: Tensor, target: Tensor) -> Tensor:
    """Probability (B, T) that the answers give to the true classes. logits: (B, T, classes)."""
    return (logits.float().softmax(-1) * target.unsqueeze(1)).sum(-1)


@dataclass(frozen=True)
class PlaceRollout:
    """Let the patch policy choose by its probabilities, and reward what it gained.

    reward: "random", the gain over a random patch in the same frame from the same memory of the classifier
    (the paper's); "prev", the gain over the decision before; "conf", the confidence itself.
    """

    reward: Reward
    config: PPOConfig

    def __call__(self, model: AdaFocus, batch: Any) -> Rollout:
        features, labels = see(model, batch)
        target, maps = _target(model, labels), features.glance().maps
        choice, _ = model.place_choice(maps)
        actions = choice.sample()
        seen = model.focus(features, None, given(model.corners_of(actions)), given(None))
        chosen = confidence(seen.step_logits, target)
        if self.reward == "random":
            other = features.local(features.random_corners())
            (answer,) = model.classify_instead(seen.glance.features, seen.local, other)
            rewards = chosen - confidence(answer, target)
        elif self.reward == "prev":
            rewards = chosen - F.pad(chosen[:, :-1], (1, 0))
        else:
            rewards = chosen
        returns = normalised(discounted_returns(rewards, self.config.gamma))
        log_probs = choice.log_prob(actions)
        return Rollout(maps, actions, log_probs, returns, rewards, target, _bad(batch))


@dataclass(frozen=True)
class LookRollout:
    """Let the skip policy choose which frames deserve the patch of the finished patch policy (AdaFocus+).

    A look earns the confidence that it adds over zeros in its place, less `price`; a skip earns nothing.
    """

    price: float
    config: PPOConfig

    def __call__(self, model: AdaFocus, batch: Any) -> Rollout:
        features, labels = see(model, batch)
        target, (maps, glance) = _target(model, labels), features.glance()
        choice, _ = model.look_choice(maps)
        looks = choice.sample()
        local = features.local(model.choose_place(maps)[0])
        chosen = local * looks.unsqueeze(-1)
        with_patch, without = model.classify_instead(glance, chosen, local, torch.zeros_like(local))
        rewards = looks * (confidence(with_patch, target) - confidence(without, target) - self.price)
        returns = normalised(discounted_returns(rewards, self.config.gamma))
        log_probs = choice.log_prob(looks)
        return Rollout(maps, looks, log_probs, returns, rewards, target, _bad(batch))


def _target(model: VideoModel, labels: Tensor) -> Tensor:
    """1 for each true class, (B, classes)."""
    return F.one_hot(labels, model.num_classes).float() if labels.dim() == 1 else labels.float()


def _bad(batch: Any) -> tuple[object, ...]:
    return tuple(getattr(batch, "bad", ()))


@dataclass(frozen=True)
class PolicyObjective:
    """One PPO update of the patch policy, or of the skip policy."""

    config: PPOConfig
    which: Literal["patch", "skip"] = "patch"

    def __call__(self, model: AdaFocus, batch: Rollout) -> dict[str, Tensor]:
        choice, value = (model.place_choice if self.which == "patch" else model.look_choice)(batch.maps)
        log_probs, entropy = choice.log_prob(batch.actions), choice.entropy()
        loss = ppo_loss(log_probs, batch.log_probs, value, batch.returns, entropy, self.config)
        return {"loss": loss, "reward": batch.rewards.mean(), "entropy": entropy.mean().detach()}


@dataclass(frozen=True)
class Rollouts:
    """Batches of rollouts by the present policy, each learnt from once (K = 1 of PPO).

    batches: (epoch, start) -> clips. least: clips from which the policy can learn; a batch with fewer, whose
    files are bad, is left out. The random choices of batch b of epoch e depend on (seed, e, b) alone, so a
    resumed run makes the same. Policies choose in the modes in which they learn: with the batch's own
    statistics, if they have batch norms.
    """

    model: Any
    batches: Callable[[int, int], Iterable[Any]]
    collect_rollout: Callable[[Any, Any], Rollout]
    seed: Sequence[int]
    least: int = 1

    def __call__(self, epoch: int, start: int) -> Iterator[Rollout | EmptyBatch]:
        for number, batch in enumerate(self.batches(epoch, start), start):
            if len(batch.labels) < self.least:
                yield EmptyBatch(_bad(batch))
            else:
                yield self._collected(batch, np.random.SeedSequence((*self.seed, epoch, number)))

    def _collected(self, batch: Any, seed: np.random.SeedSequence) -> Rollout:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
            return self.collect_rollout(self.model, batch)
