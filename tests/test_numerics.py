"""`--precision auto`: what is fastest is found by measurement, changes nothing else, and is remembered."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import train_child as toy
from foveate.layers.order import set_order
from foveate.train import numerics
from foveate.train.config import TrainConfig
from foveate.train.loop import Outcome
from foveate.train.numerics import Attempt, Numerics, fastest
from test_train import CONFIG, LEARN, train

pytestmark = pytest.mark.usefixtures("one_thread")
AUTO = dataclasses.replace(CONFIG, precision="auto")
SLOW_S = 0.03  # much more than a pass of the toy


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 is tried on processors that are slow at it, too."""
    monkeypatch.setattr(numerics, "has_bf16", lambda: True)


def attempt(model: nn.Module, best: Numerics) -> Attempt:
    """A real pass of the toy, which all ways but `best` make slowly."""
    clips = toy.clips_of([0, 1, 2, 3])

    def real(way: Numerics) -> float:
        time.sleep(0 if way == best else SLOW_S)
        with torch.autocast("cpu", torch.bfloat16, enabled=way.kind == "bf16"):
            loss = LEARN(model, clips)["loss"]
        loss.backward()
        return float(loss.detach())

    return real


@pytest.mark.parametrize(
    "best", [Numerics(kind, last) for kind in ("fp32", "bf16") for last in (False, True)], ids=str
)
def test_the_fastest_is_chosen_and_nothing_else_changes(best: Numerics) -> None:
    model = toy.make_model()
    before, chance = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    chosen, why = fastest(model, attempt(model, best))
    assert chosen == best and why.startswith(f"{best}, ")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(parameter.grad is None for parameter in model.parameters())
    kernel = model.body[3].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last) == best.channels_last


def test_what_fails_or_computes_something_else_is_not_chosen() -> None:
    model = toy.make_model()
    real = attempt(model, Numerics("bf16"))

    def spoilt(way: Numerics) -> float:
        if way.channels_last:
            raise RuntimeError("no such kernel\nin this order")
        return real(way) * (1.2 if way.kind == "bf16" else 1)

    chosen, why = fastest(model, spoilt)
    assert chosen == Numerics()
    assert "fp32 channels-last fails: no such kernel; " in why and "bf16 not taken: its loss is" in why


def test_a_gradient_that_is_not_finite_is_not_chosen() -> None:
    model = toy.make_model()
    real = attempt(model, Numerics("bf16"))

    def overflowing(way: Numerics) -> float:
        loss = real(way)
        if way.kind == "bf16":
            model.head.weight.grad[0, 0] = torch.inf
        return loss

    chosen, why = fastest(model, overflowing)
    assert chosen.kind == "fp32" and "bf16 not taken: its gradient is inf" in why


def test_kernels_of_three_dimensions_are_stored_so_too() -> None:
    model = nn.Sequential(nn.Conv3d(4, 8, 3), nn.Conv2d(4, 8, 3))
    values = [parameter.clone() for parameter in model.parameters()]
    set_order(model, channels_last=True)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last)
    set_order(model, channels_last=False)
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), values, strict=True))


def choose(monkeypatch: pytest.MonkeyPatch, wanted: Numerics) -> None:
    """Measure as ever, and choose `wanted`, whatever is fastest today."""

    def chosen(model: nn.Module, attempt: Attempt) -> tuple[Numerics, str]:
        fastest(model, attempt)
        set_order(model, wanted.channels_last)
        return wanted, str(wanted)

    monkeypatch.setattr("foveate.train.loop.fastest", chosen)


def weights(outcome: Outcome) -> dict[str, Tensor]:
    assert all(parameter.is_contiguous() for parameter in outcome.model.parameters())
    return dict(outcome.model.state_dict())


def test_measuring_leaves_no_trace_in_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, Numerics("bf16"))
    measured = weights(train(tmp_path / "auto", AUTO))
    asked = weights(train(tmp_path / "bf16", dataclasses.replace(CONFIG, precision="bf16")))
    assert all(torch.equal(value, asked[name]) for name, value in measured.items())


def test_a_resumed_run_goes_on_with_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, Numerics("bf16", channels_last=True))
    config = dataclasses.replace(AUTO, optimizer="adamw", rate=1e-3, clip_norm=0.1)
    whole = weights(train(tmp_path / "whole", config))
    calls = 0

    class Killed(Exception):
        pass

    def dying(model: nn.Module, batch: toy.Clips) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == 16 + 9:  # of four ways in four rounds, then of the steps
            raise Killed
        return LEARN(model, batch)

    with pytest.raises(Killed):
        train(tmp_path / "cut", config, objective=dying)
    monkeypatch.setattr("foveate.train.loop.fastest", None)  # not to be asked again
    resumed = weights(train(tmp_path / "cut", config, resume=True))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_it_says_what_it_chose_and_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(tmp_path, AUTO)
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("precision auto: ")]
    records = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert records[0]["kind"] == "precision" and line.endswith(records[0]["chosen"])
    assert all(way in line for way in ("fp32", "fp32 channels-last", "bf16", "bf16 channels-last", " ms"))


def test_a_first_batch_without_a_clip_is_not_measured(tmp_path: Path) -> None:
    config = TrainConfig(**{**vars(AUTO), "batch": 1, "max_bad_fraction": 0.5})
    outcome = train(tmp_path, config, bad=toy.BAD)
    assert outcome.steps == 2 * toy.VIDEOS
