"""Proximal policy optimisation on sequences: returns and the clipped loss. It knows nothing of video.

Schulman et al., 2017 (arXiv 1707.06347), as AdaFocus uses it (Wang et al., ICCV 2021, section 3.3): returns
are normalised over the whole batch and are also what the critic learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PPOConfig:
    gamma: float = 0.7  # discount of later rewards, per step
    clip: float = 0.2  # how far the probability of an action may move in one update
    value: float = 0.5  # weight of the critic's loss
    entropy: float = 0.01  # weight of the bonus for staying undecided


def discounted_returns(rewards: Tensor, gamma: float) -> Tensor:
    """R_t = r_t + gamma R_{t+1}. rewards: (B, T). Returns (B, T)."""
    returns = torch.zeros_like(rewards)
    later = torch.zeros_like(rewards[:, 0])
    for step in range(rewards.shape[1] - 1, -1, -1):
        later = rewards[:, step] + gamma * later
        returns[:, step] = later
    return returns


def normalised(returns: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over all elements; a lone one becomes 0."""
    spread = returns.std() if returns.numel() > 1 else returns.new_zeros(())
    return (returns - returns.mean()) / (spread + 1e-5)


def ppo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    values: Tensor,
    returns: Tensor,
    entropy: Tensor,
    config: PPOConfig,
) -> Tensor:
    """The loss of one update, a scalar; all arguments (B, T), returns already normalised."""
    advantage = returns - values.detach()
    ratio = (log_probs - old_log_probs.detach()).exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    critic = (values - returns).square().mean()
    return -gain.mean() + config.value * critic - config.entropy * entropy.mean()
