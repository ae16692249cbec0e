"""Precise batch norm: the statistics of all batches together, and nothing else touched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate.models.zoo import create_model
from foveate.train.precise_bn import in_modes_of, precise_bn


def test_statistics_are_those_of_all_batches_together() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm3d(3)
    clips = [2 * torch.randn(4, 3, 2, 8, 8) + shift for shift in (0, 1, 5)]
    precise_bn(norm, clips)
    whole = torch.cat(clips).transpose(0, 1).flatten(1)
    assert torch.allclose(norm.running_mean, whole.mean(1), atol=1e-5)
    assert torch.allclose(norm.running_var, whole.var(1), rtol=0.01)
    assert norm.momentum == 0.1


def test_a_model_is_left_as_it_was_but_for_the_statistics() -> None:
    torch.manual_seed(0)
    model = create_model("slow_small", 5, width=0.0625)
    model.net.res2.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    precise_bn(model, torch.randn(3, 2, 3, 2, 32, 32))
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.rsplit(".", 1)[1] for key in changed} == {"running_mean", "running_var"}
    assert changed == {
        key for key in before if "running" in key and "res2" not in key
    }  # which does not learn
    assert model.training and not model.net.res2.training


def test_without_a_norm_no_batch_is_drawn() -> None:
    drawn = iter([torch.zeros(1, 3, 2, 8, 8)])
    precise_bn(nn.BatchNorm3d(3).eval(), drawn)
    assert next(drawn) is not None


def test_modes_are_lent() -> None:
    model, other = (nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()) for _ in range(2))
    model[0].eval()
    with in_modes_of(model, other.eval()):
        assert [part.training for part in other.modules()] == [True, False, True]
    assert not any(part.training for part in other.modules())


def test_no_batch_is_an_error() -> None:
    norm = nn.BatchNorm3d(3)
    with pytest.raises(ValueError, match="at least one batch"):
        precise_bn(norm, [])
    assert norm.momentum == 0.1 and torch.equal(norm.running_var, torch.ones(3))
