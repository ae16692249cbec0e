"""AdaFocus-TSM: where motion matters, both networks shift features over time and one patch serves the clip.

A TSM-MobileNetV2 glances at 8 frames, a policy reads all its maps at once and gives one position for the
video, a TSM-ResNet-50 looks at that patch in 12 frames, and the mean logits of both are added (Wang et al.,
ICCV 2021, section 3.5 and appendix). The position is continuous, or one of a grid, as the release has it too.
Where this code differs: both frame sets come out of one clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from foveate.layers.patch import fraction_corners, grid_corners, random_corners
from foveate.models.adafocus.clip_focus import ClipFocusConfig, ClipFocusModel
from foveate.models.adafocus.config import check_grid
from foveate.models.adafocus.parts import Where


@dataclass(frozen=True)
class AdaFocusTSMConfig(ClipFocusConfig):
    grid: int | None = None  # n, the policy chooses among n x n positions; none: any position
    policy: Where = "learned"  # the others are what it must beat; a random patch differs at every call
    spread: float = 0.25  # standard deviation of the positions tried in training, per axis

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grid is not None:
            check_grid(self.grid, self.room)

    def build(self) -> AdaFocusTSM:
        """The untrained model."""
        glance, local = self.clip_networks()
        outputs = 2 if self.grid is None else self.grid**2
        policy = ClipPolicy(*self.policy_size(glance), outputs=outputs) if self.policy == "learned" else None
        spec = self.clip_spec(self.frames, glance)
        return AdaFocusTSM(glance, policy, local, None, None, spec, self)


class PositionsAround(Independent):
    """Distribution of positions around a mean (..., 2): independent normals of standard deviation `spread`.

    Samples are clamped to [0, 1], and their log-probability is taken after that, as in the released code.
    """

    def __init__(self, mean: Tensor, spread: float) -> None:
        super().__init__(Normal(mean, spread), 1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Positions (..., 2) in [0, 1]."""
        positions: Tensor = super().sample(torch.Size(sample_shape))
        return positions.clamp(0, 1)


class ClipPolicy(nn.Module):
    """The policy of AdaFocus-TSM: one position for a clip, from the glance maps of all its frames together.

    outputs: n x n, the log-odds of the positions of a grid; or 2, the logits of row and column, each the mean
    of a normal distribution.
    """

    def __init__(
        self, channels: int, frames: int, side: int, squeeze: int = 64, width: int = 1024, *, outputs: int
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels * frames, squeeze, 1, bias=False),
            nn.BatchNorm2d(squeeze),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(squeeze * side * side, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.gru = nn.GRU(width, width, batch_first=True)
        self.actor = nn.Linear(width, outputs)
        self.critic = nn.Linear(width, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """maps: (B, T, C, h, w), detached inside. Returns the actor's outputs (B, n) and values (B,)."""
        encoded = self.encoder(maps.detach().flatten(1, 2)).unsqueeze(1)  # (B, 1, width)
        hidden = self.gru(encoded)[0].squeeze(1)
        return self.actor(hidden), self.critic(hidden).squeeze(-1)


class AdaFocusTSM(ClipFocusModel):
    """Shifted glance, a policy that learns by reinforcement, shifted local network."""

    config: AdaFocusTSMConfig

    def choose_place(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One corner (B, 1, 2) for all frames: the policy's likeliest, or the centre, or anywhere."""
        if self.policy is not None:
            found = self.policy(maps)[0].unsqueeze(1)
            return self.corners_of(found.sigmoid() if self.config.grid is None else found.argmax(-1)), None
        if self.config.policy == "centre":
            return torch.full((len(maps), 1, 2), self.config.room // 2, device=maps.device), None
        return self.random_corners(len(maps), 1).to(maps.device), None

    def random_corners(self, batch: int, frames: int) -> Tensor:
        return random_corners(batch, self.config.room).unsqueeze(1)

    # ---- what reinforcement learning asks for

    def place_choice(self, maps: Tensor) -> tuple[Distribution, Tensor]:
        """The distribution of actions to try, and the expected return, (B, 1).

        An action is a position (B, 1, 2) in [0, 1], or the number of one of the grid's, (B, 1).
        """
        found, value = self.policy(maps)
        choice: Distribution
        if self.config.grid is None:
            choice = PositionsAround(found.sigmoid().unsqueeze(1), self.config.spread)
        else:
            choice = Categorical(logits=found.unsqueeze(1))
        return choice, value.unsqueeze(1)

    def corners_of(self, actions: Tensor) -> Tensor:
        """Corners (B, 1, 2) of actions, see `place_choice`."""
        if self.config.grid is None:
            return fraction_corners(actions, self.config.room)
        return grid_corners(actions, self.config.grid, self.config.room)

    def classify_instead(self, glance: Tensor, local: Tensor, *others: Tensor) -> list[Tensor]:
        """The answer (B, 1, classes) if f_L had found something else, (B, T', F)."""
        return [self.classify(glance, other)[0] for other in others]
