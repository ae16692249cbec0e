"""Returns and the clipped loss against examples worked out by hand."""

from __future__ import annotations

import pytest
import torch

from foveate.train.ppo import PPOConfig, discounted_returns, normalised, ppo_loss


def test_returns_of_two_steps() -> None:
    rewards = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    assert torch.allclose(discounted_returns(rewards, 0.7), torch.tensor([[2.4, 2.0], [-0.7, -1.0]]))


def test_normalised_over_everything() -> None:
    scaled = normalised(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-6)
    assert float(scaled.std()) == pytest.approx(1, abs=1e-4)


def test_a_lone_return_is_neither_good_nor_bad() -> None:
    assert normalised(torch.tensor([[0.3]])).item() == 0


def test_loss_by_hand() -> None:
    log_probs, old = torch.tensor([[0.5, 0.0]]), torch.tensor([[0.0, 0.0]])  # ratios e^0.5 and 1
    values, returns = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])  # advantages 1 and -1
    loss = ppo_loss(log_probs, old, values, returns, torch.tensor([[2.0, 2.0]]), PPOConfig())
    assert float(loss) == pytest.approx(-(1.2 - 1.0) / 2 + 0.5 * 1.0 - 0.01 * 2)


def test_clipped_actions_get_no_gradient() -> None:
    log_probs = torch.tensor([[0.5, 0.0]], requires_grad=True)
    zeros = torch.zeros(1, 2)
    ppo_loss(log_probs, zeros, zeros, torch.ones(1, 2), zeros, PPOConfig()).backward()
    assert log_probs.grad.tolist() == [[0.0, -0.5]]


def test_the_critic_does_not_move_the_actor() -> None:
    values = torch.zeros(1, 2, requires_grad=True)
    zeros = torch.zeros(1, 2)
    ppo_loss(zeros, zeros, values, torch.ones(1, 2), zeros, PPOConfig(value=0.0)).backward()
    assert not values.grad.any()
