"""Classifiers that answer after every frame, from features (B, T, F) to logits (B, T, classes).

The last answer is the model's; earlier ones make a prediction that can stop at any time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecurrentClassifier(nn.Module):
    """A GRU over the frames and a linear layer (AdaFocus, section 3.1)."""

    def __init__(self, features: int, num_classes: int, width: int = 1024, dropout: float = 0.5) -> None:
        super().__init__()
        self.gru = nn.GRU(features, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, T, classes) and the state (1, B, width) after the last frame."""
        hidden, state = self.gru(features, state)
        return self.linear(self.dropout(hidden)), state

    def step_from(self, features: Tensor, states: Tensor) -> Tensor:
        """Logits of one more frame from each of many states. features: (B, T, F); states: (B, T, width)."""
        flat = features.flatten(0, 1).unsqueeze(1)  # (B*T, 1, F)
        logits, _ = self(flat, states.flatten(0, 1).unsqueeze(0).contiguous())
        return logits.squeeze(1).unflatten(0, features.shape[:2])

    def states_before(self, features: Tensor) -> Tensor:
        """The state before each frame, (B, T, width), when every frame has these features."""
        hidden, _ = self.gru(features)
        return torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], dim=1)

    def reset(self, num_classes: int) -> None:
        """A new linear layer."""
        self.linear = nn.Linear(self.linear.in_features, num_classes)


class MeanClassifier(nn.Module):
    """A linear layer on each frame, and the logarithm of the mean probability over the frames so far."""

    def __init__(self, features: int, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, num_classes)

    def forward(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T, classes); the state holds (sum of probabilities, frames so far)."""
        scores = self.linear(self.dropout(features)).softmax(-1)
        sums = scores.cumsum(1)
        count = torch.arange(1, features.shape[1] + 1, device=features.device, dtype=sums.dtype)
        if state is not None:
            sums, count = sums + state[..., :-1], count + state[0, 0, -1]
        last = torch.cat([sums[:, -1:], count[-1].expand(len(sums), 1, 1)], dim=-1)
        return (sums / count[:, None]).log(), last

    def step_from(self, features: Tensor, states: Tensor) -> Tensor:
        """Log-probabilities of one more frame from each of many states, as in RecurrentClassifier."""
        scores = self.linear(self.dropout(features)).softmax(-1)
        return ((scores + states[..., :-1]) / (states[..., -1:] + 1)).log()

    def states_before(self, features: Tensor) -> Tensor:
        """(sum of probabilities, frames so far) before each frame, (B, T, classes + 1)."""
        scores = self.linear(self.dropout(features)).softmax(-1)
        before = scores.cumsum(1) - scores
        count = torch.arange(features.shape[1], device=features.device, dtype=scores.dtype)
        return torch.cat([before, count[:, None].expand(len(scores), -1, 1)], dim=-1)

    def reset(self, num_classes: int) -> None:
        """A new linear layer."""
        self.linear = nn.Linear(self.linear.in_features, num_classes)


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

    def forward(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, T, classes); the state (B, 1, width + 1) holds the maximum and the frames so far."""
        seen = torch.relu(self.norm(self.embed(features).flatten(0, 1))).unflatten(0, features.shape[:2])
        first = 0
        if state is not None:
            first = int(state[0, 0, -1])
            seen = torch.cat([state[..., :-1], seen], dim=1)
        most = seen.cummax(1).values[:, -features.shape[1] :]  # (B, T, width)
        last = len(self.heads) - 1
        logits = [self.heads[min(first + t, last)](self.dropout(most[:, t])) for t in range(most.shape[1])]
        count = torch.full_like(most[:, -1:, :1], first + most.shape[1])
        return torch.stack(logits, 1), torch.cat([most[:, -1:], count], dim=-1)

    def reset(self, num_classes: int) -> None:
        """New linear layers."""
        self.heads = nn.ModuleList(nn.Linear(self.width, num_classes) for _ in self.heads)
