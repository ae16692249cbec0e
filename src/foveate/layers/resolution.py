"""The policy of AR-Net: choose the resolution at which to process each frame, or how many frames to skip.

Meng et al., "AR-Net: Adaptive Frame Resolution for Efficient Action Recognition", ECCV 2020, section 3.2. An
LSTM reads cheap features of each frame. In training its action is sampled by straight-through Gumbel-Softmax
(Jang et al., ICLR 2017), at inference it is the most probable one. The release samples at inference too, so
that its results depend on the seed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_PROBABILITY = 1e-8  # clamp before the logarithm


class PolicyState(NamedTuple):
    """State of the policy between two frames of B videos.

    hidden, cell: (B, width), of the LSTM. action: (B, A), the last action, one-hot. wait: (B,) int64, number
    of the next frames that are still skipped.
    """

    hidden: Tensor
    cell: Tensor
    action: Tensor
    wait: Tensor


class ResolutionPolicy(nn.Module):
    """An LSTM that chooses among A = sizes + len(skips) actions, in this order.

    sizes: number of resolutions. skips: for each skip action, the number k of frames it leaves out: this one
    and the next k - 1, on which the policy need not run. remember_skipped: skipped frames still update the
    LSTM's cell, as in the release, so the policy has to run on them.
    """

    def __init__(
        self, features: int, width: int, sizes: int, skips: tuple[int, ...], remember_skipped: bool = False
    ) -> None:
        super().__init__()
        self.rnn = nn.LSTMCell(features, width)
        self.actions = nn.Linear(width, sizes + len(skips))
        self.remember_skipped = remember_skipped
        self.register_buffer("durations", torch.tensor([1] * sizes + [*skips]), persistent=False)
        self.durations: Tensor  # frames for which each action holds

    def start(self, batch: int) -> PolicyState:
        """The state before the first frame of `batch` videos."""
        weight = self.actions.weight
        hidden = weight.new_zeros(batch, self.rnn.hidden_size)
        action, wait = weight.new_zeros(batch, len(weight)), self.durations.new_zeros(batch)
        return PolicyState(hidden, hidden, action, wait)

    def forward(
        self,
        features: Tensor,
        rows: Tensor,
        state: PolicyState,
        temperature: float | None = None,
        prices: Tensor | None = None,
    ) -> tuple[Tensor, PolicyState]:
        """Advance videos `rows` (n,) by one frame: hidden states (n, width) of these, and the state of all.

        features: (n, F), of the frame. A video that is skipping keeps its action and its hidden state; a
        caller that leaves it out of `rows` must decrement its `wait`. temperature: of Gumbel-Softmax; None
        takes the most probable action. prices: (n, A), subtracted from the log-probabilities of the actions.
        """
        awake = (state.wait[rows] == 0).unsqueeze(1)  # (n, 1)
        before = PolicyState(*(value[rows] for value in state))
        hidden, cell = self.rnn(features, (before.hidden, before.cell))
        action = torch.where(awake, self.choose(hidden, temperature, prices), before.action)
        kept = torch.where(awake, hidden, before.hidden)
        cell = cell if self.remember_skipped else torch.where(awake, cell, before.cell)
        wait = torch.where(awake.squeeze(1), self.durations[action.argmax(1)], before.wait) - 1
        new = zip(state, (kept, cell, action, wait), strict=True)
        return hidden, PolicyState(*(old.index_copy(0, rows, value.to(old.dtype)) for old, value in new))

    def choose(self, hidden: Tensor, temperature: float | None, prices: Tensor | None = None) -> Tensor:
        """One-hot actions (n, A) from hidden states (n, width); sampled ones are differentiable."""
        log_probs = self.actions(hidden).softmax(1).clamp(min=MIN_PROBABILITY).log()
        log_probs = log_probs if prices is None else log_probs - prices
        if temperature is None:
            return F.one_hot(log_probs.argmax(1), log_probs.shape[1]).to(log_probs.dtype)
        return F.gumbel_softmax(log_probs, temperature, hard=True)
