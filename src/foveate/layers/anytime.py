"""Classifiers that answer after every frame, from features (B, T, F) to logits (B, T, classes).

The last answer is the model's; earlier ones make a prediction that can stop at any time. All go on from a
state (B, ...) of an earlier call and the number of frames that it stands for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate.layers.policy import run_gru


class RecurrentClassifier(nn.Module):
    """A GRU over the frames and a linear layer (AdaFocus, section 3.1)."""

    def __init__(self, features: int, num_classes: int, width: int = 1024, dropout: float = 0.5) -> None:
        super().__init__()
        self.gru = nn.GRU(features, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor, state: Tensor | None = None, first: int = 0) -> tuple[Tensor, Tensor]:
        """Logits (B, T, classes) and the state (B, width) after the last frame."""
        hidden, state = run_gru(self.gru, features, state)
        return self.linear(self.dropout(hidden)), state

    def states_before(self, features: Tensor) -> Tensor:
        """The state before each frame of a whole clip, (B, T, width), when its frames have these features."""
        hidden, _ = self.gru(features)
        return torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], dim=1)

    def step_from(self, features: Tensor, states: Tensor) -> Tensor:
        """Logits (B, T, classes), each of one more frame, (B, T, F), after `states_before` it."""
        logits, _ = self(features.flatten(0, 1).unsqueeze(1), states.flatten(0, 1))
        return logits.squeeze(1).unflatten(0, features.shape[:2])

    def reset(self, num_classes: int) -> None:
        """A new linear layer."""
        self.linear = nn.Linear(self.linear.in_features, num_classes)


class MeanClassifier(nn.Module):
    """A linear layer on each frame, and the logarithm of the mean probability over the frames so far."""

    def __init__(self, features: int, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, num_classes)

    def forward(self, features: Tensor, state: Tensor | None = None, first: int = 0) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T, classes); the state (B, classes) is the sum of the `first` frames' own."""
        sums = self._scores(features).cumsum(1)
        if state is not None:
            sums = sums + state.unsqueeze(1)
        return (sums / _numbers(sums, first)).log(), sums[:, -1]

    def states_before(self, features: Tensor) -> Tensor:
        """The sum of probabilities before each frame of a whole clip, (B, T, classes)."""
        scores = self._scores(features)
        return scores.cumsum(1) - scores

    def step_from(self, features: Tensor, states: Tensor) -> Tensor:
        """Log-probabilities (B, T, classes), each of one more frame, (B, T, F), after `states_before` it."""
        return ((self._scores(features) + states) / _numbers(states, 0)).log()

    def reset(self, num_classes: int) -> None:
        """A new linear layer."""
        self.linear = nn.Linear(self.linear.in_features, num_classes)

    def _scores(self, features: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.dropout(features)).softmax(-1)
        return scores


def _numbers(rows: Tensor, first: int) -> Tensor:
    """(T, 1), how many frames there are with each of the T rows, of which `first` came before."""
    frames = rows.shape[1]
    return torch.arange(first + 1, first + frames + 1, device=rows.device, dtype=rows.dtype).unsqueeze(1)


class RunningMaxClassifier(nn.Module):
    """A wide layer on each frame, the largest activation of the frames so far, a head for each step.

    AdaFocusV2's classifier. frames: the number of steps that have a head; later ones use the last head.
    """

    def __init__(
        self, features: int, num_classes: int, frames: int, width: int = 4096, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)
        self.width = width
        self.heads = nn.ModuleList(nn.Linear(width, num_classes) for _ in range(frames))

    def forward(self, features: Tensor, state: Tensor | None = None, first: int = 0) -> tuple[Tensor, Tensor]:
        """Logits (B, T, classes); the state (B, width) is the maximum over the `first` frames."""
        most = torch.relu(self.norm(self.embed(features).flatten(0, 1))).unflatten(0, features.shape[:2])
        most = most.cummax(1).values
        if state is not None:
            most = torch.maximum(most, state.unsqueeze(1))
        last = len(self.heads) - 1
        logits = [self.heads[min(first + t, last)](self.dropout(most[:, t])) for t in range(most.shape[1])]
        return torch.stack(logits, 1), most[:, -1]

    def reset(self, num_classes: int) -> None:
        """New linear layers."""
        self.heads = nn.ModuleList(nn.Linear(self.width, num_classes) for _ in self.heads)
