"""Networks that decide where to look next, from what the glance has seen so far.

The patch policy of AdaFocus (Wang et al., ICCV 2021, section 3.2): the glance's feature map, squeezed by a
1x1 convolution, goes through a GRU over the frames; an actor gives the probability of each position and a
critic the expected return. The policy never sees what the local network found, so offline it rolls over all
frames of a clip at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal


class Decision(NamedTuple):
    """What a policy says of each frame.

    logits: (B, T, A), of the positions, or of "look closely" against "skip" if A is 1. value: (B, T), the
    critic's expected return. state: (B, width), the memory after the last frame.
    """

    logits: Tensor
    value: Tensor
    state: Tensor


def run_gru(gru: nn.GRU, features: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """One layer over (B, T, F) with a state (B, width), batch first as everywhere; None: from the start."""
    hidden, last = gru(features, None if state is None else state.unsqueeze(0).contiguous())
    return hidden, last.squeeze(0)


class RecurrentPolicy(nn.Module):
    """Encoder, GRU, actor and critic.

    channels, side: of the glance's feature map. actions: size of the actor's output.
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
        """maps: (B, T, C, h, w); no gradient reaches the glance. state: of an earlier call."""
        seen = self.encoder(maps.detach().flatten(0, 1)).unflatten(0, maps.shape[:2])  # (B, T, width)
        hidden, state = run_gru(self.gru, seen, state)
        return Decision(self.actor(hidden), self.critic(hidden).squeeze(-1), state)


class SmoothPolicy(nn.Module):
    """The policy of AdaFocusV2: tanh and batch norm throughout, a real position for each frame."""

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
        """maps: (B, T, C, h, w), detached inside. Returns fractions (B, T, 2) in [0, 1] and the state."""
        seen = self.encoder(maps.detach().flatten(0, 1)).unflatten(0, maps.shape[:2])
        hidden, state = run_gru(self.gru, seen, state)
        return torch.sigmoid(self.position(hidden)), state


class ClipPolicy(nn.Module):
    """The policy of AdaFocus-TSM: all glance maps of a clip on top of each other give one position.

    The mean of a normal distribution of fixed spread; in training a position is drawn from it.
    """

    def __init__(self, channels: int, frames: int, side: int, squeeze: int = 64, width: int = 1024) -> None:
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
        self.actor = nn.Linear(width, 2)
        self.critic = nn.Linear(width, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """maps: (B, T, C, h, w). Returns the mean position (B, 2) in [0, 1] and the critic's value (B,)."""
        seen = self.encoder(maps.detach().flatten(1, 2)).unsqueeze(1)  # (B, 1, width)
        hidden = self.gru(seen)[0].squeeze(1)
        return torch.sigmoid(self.actor(hidden)), self.critic(hidden).squeeze(-1)


class PositionsAround(Independent):
    """Positions in [0, 1] tried around a mean (..., 2), each axis by a normal distribution of fixed spread.

    A sample is moved into [0, 1] before its log-probability is taken, as in the released code.
    """

    def __init__(self, mean: Tensor, spread: float) -> None:
        super().__init__(Normal(mean, spread), 1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Positions (..., 2)."""
        positions: Tensor = super().sample(torch.Size(sample_shape))
        return positions.clamp(0, 1)
