"""AdaFocus: glance at every whole frame, then look closely at one small patch of it.

A cheap network f_G sees the frames, a recurrent policy pi picks a patch in each, a strong network f_L looks
at the patch alone, and a recurrent classifier f_C reads both and answers after every frame (Wang et al.,
"Adaptive Focus for Efficient Video Recognition", ICCV 2021, section 3). AdaFocus+ adds a second policy that
leaves f_L out of frames that do not need it; no code of it was released, so it is built from the paper's
words. Where this code differs: the policy sees glances only, so a clip takes three batched calls instead of
a loop over frames; skipped frames are not computed; reading can stop once the answer is sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution

from foveate.backbones.slots import Temporal, temporal_slot
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.anytime import MeanClassifier, RecurrentClassifier, run_gru
from foveate.layers.patch import grid_corners
from foveate.models.adafocus.attention import AttentionPolicy
from foveate.models.adafocus.config import FocusConfig, check_grid
from foveate.models.adafocus.early_exit import check_exits
from foveate.models.adafocus.parts import FocusModel, Order
from foveate.models.adafocus.seen import FocusState
from foveate.models.base import ModelOutput


@dataclass(frozen=True)
class AdaFocusConfig(FocusConfig):
    grid: int = 7  # n, the policy chooses among n x n positions
    # learned: the paper's, by reinforcement; attention: by labels alone, for few videos (attention.py); the
    # others are what they must beat, and a random patch differs at every call
    policy: Literal["learned", "attention", "centre", "random"] = "learned"
    skip: bool = False  # AdaFocus+: a second policy leaves f_L out of some frames
    skip_threshold: float = 0.5  # probability from which f_L runs; higher is cheaper
    exits: tuple[float, ...] = ()  # probability of the best class at which reading stops; none: read all
    exit_group: int = 1  # frames read between two decisions; 1 as in the papers, 2 to 4 are quicker
    classifier: Literal["gru", "mean"] = "gru"  # f_C
    classifier_width: int = 1024  # of f_C's GRU
    order: Order = "time"  # in which frames are read
    glance_temporal: Temporal = "none"  # what lets the glances at a clip see each other
    glance_aggregation: AggregationConfig = TAM  # how, if glance_temporal says so

    def __post_init__(self) -> None:
        super().__post_init__()
        check_exits(self.exits, self.frames, self.exit_group)
        check_grid(self.grid, self.room)
        if self.glance_temporal != "none" and (self.exits or self.order != "time"):
            raise ValueError(
                "glances that see each other need all frames in the order of time, without exits"
            )
        if self.skip and self.policy != "learned":
            raise ValueError("skip needs the learned policy")

    def build(self) -> AdaFocus:
        """The untrained model."""
        slot = temporal_slot(self.glance_temporal, self.glance, aggregation=self.glance_aggregation)
        glance, local = self.networks(slot)
        size = (glance.channels, self.glance_side, self.policy_squeeze, self.policy_width)
        policy: RecurrentPolicy | AttentionPolicy | None = None
        if self.policy == "learned":
            policy = RecurrentPolicy(*size, actions=self.grid**2)
        elif self.policy == "attention":
            channels, windows = (glance.channels, local.channels), (self.grid, self.size, self.patch)
            policy = AttentionPolicy(*channels, self.glance_side, windows, self.num_classes)
        skip = RecurrentPolicy(*size, actions=1) if self.skip else None
        features = glance.channels + local.channels
        classifier: RecurrentClassifier | MeanClassifier
        if self.classifier == "gru":
            width = self.classifier_width
            classifier = RecurrentClassifier(features, self.num_classes, width, self.dropout)
        else:
            classifier = MeanClassifier(features, self.num_classes, self.dropout)
        spec = self.clip_spec(self.frames, glance, short="repeat_last")
        return AdaFocus(glance, policy, local, classifier, skip, spec, self)


class Decision(NamedTuple):
    """Output of a policy for B videos of T frames.

    logits: (B, T, A) of the A positions; with A = 1, the log-odds of computing the patch rather than skipping
    it. value: (B, T), the critic's expected return. state: (B, width), hidden state after the last frame.
    """

    logits: Tensor
    value: Tensor
    state: Tensor


class RecurrentPolicy(nn.Module):
    """The policy of AdaFocus: encoder, GRU, actor and critic.

    channels, side: of the glance's feature map. squeeze: channels after the 1x1 convolution. width: hidden
    units. actions: number of outputs of the actor.
    """

    def __init__(
        self, channels: int, side: int, squeeze: int = 32, width: int = 1024, *, actions: int
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, squeeze, 1, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(squeeze * side * side, width),
            nn.ReLU(),
        )
        self.gru = nn.GRU(width, width, batch_first=True)
        self.actor = nn.Linear(width, actions)
        self.critic = nn.Linear(width, 1)

    def forward(self, maps: Tensor, state: Tensor | None = None) -> Decision:
        """maps: (B, T, C, h, w), detached inside. state: (B, width), of the call before, to go on from it."""
        encoded = self.encoder(maps.detach().flatten(0, 1)).unflatten(0, maps.shape[:2])  # (B, T, width)
        hidden, state = run_gru(self.gru, encoded, state)
        return Decision(self.actor(hidden), self.critic(hidden).squeeze(-1), state)


class AdaFocus(FocusModel):
    """Glance, policy, local network, classifier; with a skip policy, AdaFocus+."""

    config: AdaFocusConfig
    head_names = (*FocusModel.head_names, "policy.guide.head.")

    @property
    def glances_alone(self) -> bool:  # type: ignore[override]
        return self.config.glance_temporal == "none"

    def reset_head(self, num_classes: int) -> None:
        super().reset_head(num_classes)
        if self.config.policy == "attention":
            self.policy.guide.reset(num_classes)

    def choose_place(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The most probable position of the grid, or the centre, or anywhere, as the configuration says."""
        batch, frames = maps.shape[:2]
        if self.policy is not None:
            decision = self.policy(maps, state)
            return self.corners_of(decision.logits.argmax(-1)), decision.state
        if self.config.policy == "centre":
            return torch.full((batch, frames, 2), self.config.room // 2, device=maps.device), None
        return self.random_corners(batch, frames).to(maps.device), None

    def choose_look(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """Look where the skip policy thinks so with a probability above the threshold."""
        if self.skip_policy is None:
            return None, None
        decision = self.skip_policy(maps, state)
        return decision.logits.squeeze(-1).sigmoid() > self.config.skip_threshold, decision.state

    def step(self, frame: Tensor, state: FocusState | None = None) -> tuple[ModelOutput, FocusState]:
        """As in FocusModel; ValueError if the glance sees other frames."""
        if self.config.glance_temporal != "none":
            raise ValueError("glances that see each other cannot stream: use glance_temporal=none")
        return super().step(frame, state)

    # ---- what reinforcement learning asks for

    def place_choice(self, maps: Tensor) -> tuple[Distribution, Tensor]:
        """The policy's distribution of actions (B, T), and the return that it expects, (B, T)."""
        decision = self.policy(maps)
        return Categorical(logits=decision.logits), decision.value

    def look_choice(self, maps: Tensor) -> tuple[Distribution, Tensor]:
        """The skip policy's distribution of looks (B, T), 0 or 1, and the return that it expects, (B, T)."""
        decision = self.skip_policy(maps)
        return Bernoulli(logits=decision.logits.squeeze(-1)), decision.value

    def corners_of(self, actions: Tensor) -> Tensor:
        """Corners (B, T, 2) of positions of the grid, (B, T)."""
        return grid_corners(actions, self.config.grid, self.config.room)

    def classify_instead(self, glance: Tensor, local: Tensor, *others: Tensor) -> list[Tensor]:
        """The answer after each frame, (B, T, classes), if f_L had found something else in that frame alone.

        glance, local: features of the clip as it was read. others: (B, T, F), what could have been found.
        """
        states = self.classifier.states_before(torch.cat([glance, local], dim=-1))
        return [self.classifier.step_from(torch.cat([glance, other], dim=-1), states) for other in others]
