"""Parameter groups and schedules against the papers' numbers; what learns and what stays."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from foveate.config import from_dict, to_dict
from foveate.errors import UsageError
from foveate.train.config import TrainConfig
from foveate.train.ema import Ema
from foveate.train.optim import (
    ParamGroup,
    freeze_batch_norms,
    learn_mode,
    make_groups,
    make_optimizer,
    rate_at,
    set_rate,
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.mixed = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Dropout())
        self.memory = nn.GRU(4, 4)
        self.head = nn.Linear(4, 2)


def settings(model: nn.Module, config: TrainConfig) -> dict[str, tuple[float, float]]:
    """(rate, decay) of every parameter by name."""
    optimizer = make_optimizer(model, make_groups(model, config.groups), config)
    set_rate(optimizer, 1.0)
    of = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    return {name: of[id(param)] for name, param in model.named_parameters()}


def test_tsm_factors() -> None:
    found = settings(Net(), TrainConfig(groups="tsm", weight_decay=5e-4))
    assert found["conv.weight"] == found["mixed.0.weight"] == found["memory.weight_hh_l0"] == (1, 5e-4)
    assert found["conv.bias"] == found["memory.bias_ih_l0"] == (2, 0)
    assert found["norm.weight"] == found["norm.bias"] == found["mixed.1.bias"] == (1, 0)
    assert found["head.weight"] == (5, 5e-4)
    assert found["head.bias"] == (10, 0)


def test_other_styles() -> None:
    assert set(settings(Net(), TrainConfig(weight_decay=0.1)).values()) == {(1, 0.1)}
    slowfast = settings(Net(), TrainConfig(groups="no_norm_decay", weight_decay=0.1))
    assert {name for name, (_, decay) in slowfast.items() if decay == 0} == {
        f"{norm}.{part}" for norm in ("norm", "mixed.1") for part in ("weight", "bias")
    }
    usual = settings(Net(), TrainConfig(groups="no_norm_bias_decay", weight_decay=0.1))
    assert usual["head.bias"] == usual["conv.bias"] == usual["norm.weight"] == (1, 0)
    assert usual["head.weight"] == (1, 0.1)


def test_a_group_for_each_part() -> None:
    net = Net()
    net.conv.requires_grad_(False)
    groups = [
        ParamGroup("body", (*net.norm.parameters(), *net.mixed.parameters()), rate=0.5),
        ParamGroup("policy", tuple(net.memory.parameters()), rate=0.3, decay=0),
        ParamGroup("head", tuple(net.head.parameters())),
    ]
    optimizer = make_optimizer(net, groups, TrainConfig(optimizer="adamw", weight_decay=0.02))
    set_rate(optimizer, 2e-3)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([1e-3, 6e-4, 2e-3])
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.02, 0, 0.02]
    with pytest.raises(ValueError, match=r"parameter head\.weight learns but stands in no group"):
        make_optimizer(net, groups[:2], TrainConfig())
    with pytest.raises(ValueError, match="two groups"):
        make_optimizer(net, [*groups, groups[0]], TrainConfig())


def test_sgd_step_is_the_formula() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    model = nn.ParameterList([weight])
    config = TrainConfig(weight_decay=0.1, momentum=0.9, nesterov=True)
    optimizer = make_optimizer(model, [ParamGroup("all", (weight,))], config)
    set_rate(optimizer, 0.5)
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    slope = 2.0 + 0.1 * 1.0
    assert weight.item() == pytest.approx(1.0 - 0.5 * (slope + 0.9 * slope))


SLOWFAST = TrainConfig(
    epochs=196, batch=64, rate=0.1, nesterov=True, warmup_epochs=34, warmup_rate=0.01, groups="no_norm_decay"
)


def test_slowfast_warms_up_to_its_own_cosine() -> None:
    def cosine(epoch: float) -> float:
        return 0.5 * 0.1 * (math.cos(math.pi * epoch / 196) + 1)

    assert rate_at(SLOWFAST, 0) == pytest.approx(0.01)
    assert rate_at(SLOWFAST, 17) == pytest.approx((0.01 + cosine(34)) / 2)
    assert rate_at(SLOWFAST, 34 - 1e-9) == pytest.approx(rate_at(SLOWFAST, 34)) == pytest.approx(cosine(34))
    assert rate_at(SLOWFAST, 100.25) == pytest.approx(cosine(100.25))
    assert rate_at(SLOWFAST, 196) == pytest.approx(0)


def test_tsm_steps_and_scales_with_the_batch() -> None:
    kinetics = TrainConfig(
        epochs=50, batch=256, rate=0.02, reference_batch=128, schedule="step", milestones=(20, 40)
    )
    rates = [rate_at(kinetics, epoch) for epoch in (0, 19.99, 20, 39.9, 40, 49.9)]
    assert rates == pytest.approx([0.04, 0.04, 0.004, 0.004, 0.0004, 0.0004])


def test_a_cosine_by_epoch_stays_for_the_epoch() -> None:
    adafocus = TrainConfig(epochs=15, batch=64, rate=0.01, schedule_every="epoch")
    assert (
        rate_at(adafocus, 3.9)
        == rate_at(adafocus, 3)
        == pytest.approx(0.005 * (1 + math.cos(math.pi * 3 / 15)))
    )


def test_the_rate_as_it_stands() -> None:
    config = TrainConfig(batch=7, rate=0.3, reference_batch=None, schedule="constant")
    assert rate_at(config, 12.5) == 0.3


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("epochs", 0, "epochs is 0"),
        ("rate", -1.0, "rate is -1.0"),
        ("rate", float("nan"), "rate: nan is not a finite number"),
        ("label_smoothing", 1.0, "label_smoothing is 1.0"),
        ("milestones", [3, 2], "milestones is"),
        ("accumulate", 3, "does not divide into 3 parts"),
        ("optimizer", "sdg", "optimizer: 'sdg' is not allowed (did you mean sgd"),
        ("learning_rate", 1.0, "unknown key 'learning_rate'"),
        ("clip_norm", 0.0, "clip_norm is 0.0"),
        ("max_bad_fraction", 2.0, "max_bad_fraction is 2.0"),
        ("reference_batch", 0, "reference_batch is 0"),
    ],
)
def test_wrong_settings_are_named(field: str, value: object, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_dict(TrainConfig, {field: value}, "config.yaml")
    assert words in str(caught.value)


def test_settings_survive_plain_data() -> None:
    assert from_dict(TrainConfig, to_dict(SLOWFAST), "x") == SLOWFAST


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov"):
        TrainConfig(nesterov=True, momentum=0)


def test_parts_of_a_batch() -> None:
    config = TrainConfig(batch=24, accumulate=3)
    assert (config.part(), config.part(4)) == (8, 2)
    with pytest.raises(UsageError, match="batch: 24 clips do not divide by 5 processes x 3 parts"):
        config.part(5)


def test_partial_bn_leaves_the_first_to_learn() -> None:
    net = Net()
    freeze_batch_norms(net)
    learn_mode(net)
    assert net.norm.training
    assert not net.mixed[1].training
    assert not any(p.requires_grad for p in net.mixed[1].parameters())
    before = net.mixed[1].running_mean.clone()
    net.mixed(net.norm(net.conv(torch.rand(2, 3, 8, 8))))
    assert torch.equal(net.mixed[1].running_mean, before)
    assert not torch.equal(net.norm.running_mean, torch.zeros(4))
    assert "mixed.1.weight" not in settings_names(net)


def settings_names(net: nn.Module) -> set[str]:
    listed = {p for group in make_groups(net, "tsm") for p in group.params}
    return {name for name, param in net.named_parameters() if param in listed}


def test_a_frozen_part_is_in_eval_mode_with_its_dropout() -> None:
    net = Net()
    net.mixed.requires_grad_(False)
    learn_mode(net)
    assert net.training
    assert net.head.training
    assert not any(module.training for module in net.mixed.modules())


def test_ema_is_the_geometric_mean_of_the_past() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema(model, decay=0.5)
    expected = 0.0
    for step in range(1, 6):
        nn.init.constant_(model.weight, step)
        ema.update(model, step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    assert ema.model.weight.item() == pytest.approx(expected)
    assert not ema.model.weight.requires_grad
