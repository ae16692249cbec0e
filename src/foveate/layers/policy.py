"""Policy networks of the AdaFocus family: where to place the patch, from the features of the glance.

Wang et al., ICCV 2021, section 3.2: the glance's feature map, reduced by a 1x1 convolution, goes through a
GRU over the frames; an actor gives the probability of each position and a critic the expected return. The
policy does not depend on the features of the local network, so it runs over all frames of a clip in one call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal


class Decision(NamedTuple):
    """Output of a policy for B videos of T frames.

    logits: (B, T, A) of the A positions; with A = 1, the log-odds of computing the patch rather than skipping
    it. value: (B, T), the critic's expected return. state: (B, width), hidden state after the last frame.
    """

    logits: Tensor
    value: Tensor
    state: Tensor


def run_gru(gru: nn.GRU, features: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run a one-layer GRU on features (B, T, F): outputs (B, T, width) and the last state (B, width)."""
    hidden, last = gru(features, None if state is None else state.unsqueeze(0).contiguous())
    return hidden, last.squeeze(0)


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


class ClipPolicy(nn.Module):
    """The policy of AdaFocus-TSM: one position for a clip, from the glance maps of all its frames together.

    The position is the mean of a normal distribution of fixed standard deviation; training samples from it.
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
        """maps: (B, T, C, h, w), detached inside. Returns mean positions (B, 2) in [0, 1] and values (B,)."""
        encoded = self.encoder(maps.detach().flatten(1, 2)).unsqueeze(1)  # (B, 1, width)
        hidden = self.gru(encoded)[0].squeeze(1)
        return torch.sigmoid(self.actor(hidden)), self.critic(hidden).squeeze(-1)


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
