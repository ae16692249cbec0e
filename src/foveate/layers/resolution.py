"""Which size each frame is worth, or how many frames to skip: the policy of AR-Net.

Meng et al., "AR-Net: Adaptive Frame Resolution for Efficient Action Recognition", ECCV 2020, section 3.2. An
LSTM reads a cheap look at each frame; in training its choice is drawn by Gumbel-Softmax (Jang et al., ICLR
2017) whose straight-through gradient reaches the policy, at inference it is the most probable one. The
release draws at inference too, so that its results change with the seed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 1e-8  # probability, before its logarithm is taken


class PolicyState(NamedTuple):
    """The policy between two frames of B videos.

    hidden, cell: (B, width), of the LSTM. action: (B, A), one-hot, the last choice. wait: (B,), how many
    frames from here on it still skips.
    """

    hidden: Tensor
    cell: Tensor
    action: Tensor
    wait: Tensor


class ResolutionPolicy(nn.Module):
    """LSTM and a choice among `sizes` ways to read a frame and the lengths of `skips`, in this order.

    A skip of k frames leaves out this frame and k - 1 more, which the policy need not see either.
    remember_skipped: frames that are left out still change the LSTM's cell, as in the release, so that they
    have to be looked at.
    """

    def __init__(
        self, features: int, width: int, sizes: int, skips: tuple[int, ...], remember_skipped: bool = False
    ) -> None:
        super().__init__()
        self.rnn = nn.LSTMCell(features, width)
        self.actions = nn.Linear(width, sizes + len(skips))
        self.remember_skipped = remember_skipped
        self.register_buffer("lasting", torch.tensor([1] * sizes + [*skips]), persistent=False)
        self.lasting: Tensor

    def start(self, batch: int) -> PolicyState:
        """Before the first frame of `batch` videos."""
        weight = self.actions.weight
        hidden = weight.new_zeros(batch, self.rnn.hidden_size)
        action, wait = weight.new_zeros(batch, len(weight)), self.lasting.new_zeros(batch)
        return PolicyState(hidden, hidden, action, wait)

    def forward(
        self, features: Tensor, rows: Tensor, state: PolicyState, temperature: float | None = None
    ) -> tuple[Tensor, PolicyState]:
        """One frame further for the videos `rows`, (n,): their hidden states and the new state of all videos.

        features: (n, F). A video that skips keeps its action and its hidden state; who does not show it to
        the policy counts down its `wait` himself. temperature: of the draw; None takes the most probable.
        """
        awake = (state.wait[rows] == 0).unsqueeze(1)  # (n, 1)
        before = PolicyState(*(value[rows] for value in state))
        hidden, cell = self.rnn(features, (before.hidden, before.cell))
        action = torch.where(awake, self.choose(hidden, temperature), before.action)
        kept = torch.where(awake, hidden, before.hidden)
        cell = cell if self.remember_skipped else torch.where(awake, cell, before.cell)
        wait = torch.where(awake.squeeze(1), self.lasting[action.argmax(1)], before.wait) - 1
        new = zip(state, (kept, cell, action, wait), strict=True)
        return hidden, PolicyState(*(old.index_copy(0, rows, value.to(old.dtype)) for old, value in new))

    def choose(self, hidden: Tensor, temperature: float | None) -> Tensor:
        """One-hot actions (n, A); a drawn one carries the gradient of its softened probabilities."""
        log_probs = self.actions(hidden).softmax(1).clamp(min=SMALLEST).log()
        if temperature is None:
            return F.one_hot(log_probs.argmax(1), log_probs.shape[1]).to(log_probs.dtype)
        return F.gumbel_softmax(log_probs, temperature, hard=True)
