"""Anytime classifiers: logits after every frame, from features (B, T, F) to logits (B, T, classes).

The logits after the last frame are the model's output; the earlier ones allow an early exit. To continue a
clip, pass the state (B, ...) that the previous call returned and `first`, the number of frames it covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers.slim import SlimLinear
from foveate.layers.temporal import is_traced


def run_gru(gru: nn.GRU, features: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run a one-layer GRU on features (B, T, F): outputs (B, T, width) and the last state (B, width)."""
    if is_traced():
        return _run_traced(gru, features, state)
    hidden, last = gru(features, None if state is None else state.unsqueeze(0).contiguous())
    return hidden, last.squeeze(0)


def _run_traced(gru: nn.GRU, features: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """`run_gru` step by step, for compilers: a GRU of OpenVINO in bfloat16 takes ten times as long."""
    weights: tuple[Tensor, ...] = tuple(gru.parameters())
    of_input, of_state, input_bias, state_bias = weights
    outputs = []
    hidden = features.new_zeros(features.shape[0], gru.hidden_size) if state is None else state
    for given in F.linear(features, of_input, input_bias).unbind(1):
        reset, update, new = given.chunk(3, -1)
        own_reset, own_update, own_new = F.linear(hidden, of_state, state_bias).chunk(3, -1)
        new = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
        hidden = new + torch.sigmoid(update + own_update) * (hidden - new)
        outputs.append(hidden)
    return torch.stack(outputs, 1), hidden


class AnytimeClassifier(nn.Module):
    """What all share: `accumulate`, nearly all of the work, is the same at every step; `answer` is not.

    So an engine compiles the first once for all steps.
    """

    def forward(self, features: Tensor, state: Tensor | None = None, first: int = 0) -> tuple[Tensor, Tensor]:
        """Logits (B, T, classes) and the state (B, ...) after the last frame. features: (B, T, F)."""
        known, state = self.accumulate(features, state)
        return self.answer(known, first), state

    def accumulate(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is known after each frame, (B, T, width), and the state (B, ...) after the last."""
        raise TypeError(f"{type(self).__name__} does not implement `accumulate`")

    def answer(self, known: Tensor, first: int = 0) -> Tensor:
        """Logits (B, T, classes) from what is known after each frame, `first` frames after the start."""
        raise TypeError(f"{type(self).__name__} does not implement `answer`")


class RecurrentClassifier(AnytimeClassifier):
    """A GRU over the frames and a linear layer (f_C of AdaFocus, section 3.1)."""

    def __init__(self, features: int, num_classes: int, width: int = 1024, dropout: float = 0.5) -> None:
        super().__init__()
        self.gru = nn.GRU(features, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, num_classes)

    def accumulate(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The GRU's outputs (B, T, width) and its state (B, width)."""
        return run_gru(self.gru, features, state)

    def answer(self, known: Tensor, first: int = 0) -> Tensor:
        logits: Tensor = self.linear(self.dropout(known))
        return logits

    def states_before(self, features: Tensor) -> Tensor:
        """Hidden state before each frame of a clip, (B, T, width). features: (B, T, F)."""
        hidden, _ = self.gru(features)
        return torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], dim=1)

    def step_from(self, features: Tensor, states: Tensor) -> Tensor:
        """Logits (B, T, classes) of one step from each of `states_before`. features: (B, T, F)."""
        logits, _ = self(features.flatten(0, 1).unsqueeze(1), states.flatten(0, 1))
        return logits.squeeze(1).unflatten(0, features.shape[:2])

    def reset(self, num_classes: int) -> None:
        """A new, untrained linear layer for `num_classes` classes."""
        self.linear = nn.Linear(self.linear.in_features, num_classes)


class MeanClassifier(AnytimeClassifier):
    """A linear layer on each frame; the logarithm of the mean probability over the frames so far."""

    def __init__(self, features: int, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, num_classes)

    def accumulate(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sums of probabilities up to each frame, (B, T, classes), and to the last, (B, classes)."""
        sums = self._scores(features).cumsum(1)
        if state is not None:
            sums = sums + state.unsqueeze(1)
        return sums, sums[:, -1]

    def answer(self, known: Tensor, first: int = 0) -> Tensor:
        """Log-probabilities (B, T, classes)."""
        return (known / _frame_counts(known, first)).log()

    def states_before(self, features: Tensor) -> Tensor:
        """Sum of the probabilities of the frames before each frame of a clip, (B, T, classes)."""
        scores = self._scores(features)
        return scores.cumsum(1) - scores

    def step_from(self, features: Tensor, states: Tensor) -> Tensor:
        """Log-probabilities (B, T, classes) of one step from each state, as in `RecurrentClassifier`."""
        return ((self._scores(features) + states) / _frame_counts(states, 0)).log()

    def reset(self, num_classes: int) -> None:
        """A new, untrained linear layer for `num_classes` classes."""
        self.linear = nn.Linear(self.linear.in_features, num_classes)

    def _scores(self, features: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.dropout(features)).softmax(-1)
        return scores


def _frame_counts(rows: Tensor, first: int) -> Tensor:
    """(T, 1): first + 1, ..., first + T, the number of frames up to each row. rows: (B, T, classes)."""
    frames = rows.shape[1]
    return torch.arange(first + 1, first + frames + 1, device=rows.device, dtype=rows.dtype).unsqueeze(1)


class RunningMaxClassifier(AnytimeClassifier):
    """AdaFocusV2's classifier: embed each frame, running maximum over the frames, one linear head per step.

    frames: number of heads; steps after the last one use the last head. beside: features that `answer` is
    given behind the `width` of each frame, as the maximum over other frames (Uni-AdaFocus).
    """

    def __init__(
        self,
        features: int,
        num_classes: int,
        frames: int,
        width: int = 4096,
        dropout: float = 0.5,
        beside: int = 0,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)
        self.width = width + beside  # of the heads
        self.heads = nn.ModuleList(nn.Linear(self.width, num_classes) for _ in range(frames))

    def accumulate(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The maximum up to each frame, (B, T, width), and to the last, (B, width)."""
        embedded = torch.relu(self.embedded(features.flatten(0, 1))).unflatten(0, features.shape[:2])
        known = []
        for frame in embedded.unbind(1):
            state = frame if state is None else torch.maximum(state, frame)
            known.append(state)
        assert state is not None  # no clip is empty
        return torch.stack(known, 1), state

    def embedded(self, features: Tensor) -> Tensor:
        """Each frame embedded, (N, width), from features (N, F), before the activation."""
        normed: Tensor = self.norm(self.embed(features))
        return normed

    def answer(self, known: Tensor, first: int = 0) -> Tensor:
        last = len(self.heads) - 1
        frames = enumerate(known.unbind(1), start=first)
        return torch.stack([self.heads[min(step, last)](self.dropout(frame)) for step, frame in frames], 1)

    def reset(self, num_classes: int) -> None:
        """New, untrained linear layers for `num_classes` classes."""
        self.heads = nn.ModuleList(nn.Linear(self.width, num_classes) for _ in self.heads)


class SlimRunningMaxClassifier(RunningMaxClassifier):
    """The same for features of several widths: the first ones alone, with a norm for each number of them.

    features: increasing, the last is the full width. The other options are those of `RunningMaxClassifier`.
    """

    def __init__(
        self,
        features: Sequence[int],
        num_classes: int,
        frames: int,
        width: int = 4096,
        dropout: float = 0.5,
        beside: int = 0,
    ) -> None:
        super().__init__(features[-1], num_classes, frames, width, dropout, beside)
        self.embed = SlimLinear(features[-1], width)
        self.narrower = nn.ModuleDict({str(number): nn.BatchNorm1d(width) for number in features[:-1]})

    def embedded(self, features: Tensor) -> Tensor:
        given = int(features.shape[-1])
        norm = self.norm if given == self.embed.in_features else self.narrower[str(given)]
        normed: Tensor = norm(self.embed(features))
        return normed
