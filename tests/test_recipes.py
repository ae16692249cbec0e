"""Recipes: which options a model has, what is refused, what is frozen, what is warned of."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from foveate.cli.training import read_job, train_command
from foveate.errors import UsageError
from foveate.models.zoo import MODELS, create_model
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.loop import Doubts
from foveate.train.optim import ParamGroup, check_group_rates, freeze, learn_mode
from foveate.train.recipes import RECIPES, VARIANTS, recipe_for, with_plan
from foveate.train.recipes.adafocus import AdaFocusPlan, AdaFocusTSMPlan
from foveate.train.recipes.arnet import ARNetPlan


def test_every_model_of_the_zoo_has_a_recipe() -> None:
    assert {spec.recipe for spec in MODELS.values()} == set(RECIPES)
    assert set(VARIANTS) < set(RECIPES)


@pytest.mark.parametrize(
    ("model", "wanted", "cause"),
    [
        ("tsm_r50_8", "adafocus", "does not fit tsm_r50_8 .use classifier or small"),
        ("arnet_small", "small", "does not fit arnet_small .use arnet"),
        ("tsm_r50_8", "smal", "no recipe of this name .did you mean small"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(model: str, wanted: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        recipe_for(model, wanted)


@pytest.mark.parametrize(
    ("model", "option", "cause"),
    [
        ("tsm_r50_8", "--patch-epochs", "to the recipe adafocus or adafocus_tsm; that of tsm_r50_8 is"),
        ("adafocus_small", "--joint-rate=1", "to the recipe arnet; that of adafocus_small is adafocus"),
        ("adafocus_v2_small", "--tune-rate", "to the recipe adafocus or adafocus_tsm"),
    ],
)
def test_an_option_of_another_recipe_is_refused(model: str, option: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        train_command(["--model", model, option, "3"])


@pytest.mark.parametrize("model", ["tsm_r50_8", "adafocus_small", "adafocus_v2_small", "arnet_small"])
def test_help_has_the_options_of_the_recipe_and_no_other(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from foveate.cli import main

    with pytest.raises(SystemExit):
        main(["train", "--model", model, "--help"])
    said = capsys.readouterr().out
    own = {field.name for field in fields(recipe_for(model).plan)}
    every = {field.name for recipe in RECIPES.values() for field in fields(recipe.plan)}
    shown = {name for name in every if f" --{name.replace('_', '-')} " in said}
    assert shown == own


def test_a_plan_of_another_recipe_is_refused() -> None:
    job = TrainJob(Path("list"), Path("out"), "adafocus_small", plan=ARNetPlan())
    with pytest.raises(UsageError, match="ARNetPlan is not the plan of the recipe adafocus"):
        with_plan(job)


def test_small_changes_numbers_and_keeps_stages() -> None:
    names = {}
    for recipe in ("", "small"):
        job, found = with_plan(TrainJob(Path("list"), Path("out"), "adafocus_small", recipe=recipe))
        names[recipe] = [stage.name for stage in found.stages(create_model("adafocus_small"), job)]
    assert names[""] == names["small"]
    small = VARIANTS["adafocus"]["small"]
    assert small.train.optimizer == "adamw" and small.plan.patch_classifier == 1


def test_settings_of_runs_before_recipes_still_load(tmp_path: Path) -> None:
    old = {
        "videos": "v", "out": "o", "model": "adafocus_small", "train": {"batch": 8},
        "focus": {"glance_epochs": 3, "patch_rate": None, "only": ["stage0"], "exit_frames": 2.0},
        "resolution": {"branch_epochs": 15},
    }  # fmt: skip
    path = tmp_path / "config.yaml"
    for model, plan in (
        ("adafocus_small", AdaFocusPlan(glance_epochs=3, exit_frames=2.0)),
        ("adafocus_tsm_144", AdaFocusTSMPlan(glance_epochs=3)),
        ("arnet_small", ARNetPlan()),
    ):
        path.write_text(yaml.safe_dump(old | {"model": model}))
        job = read_job(path)
        assert (job.plan, job.only, job.train) == (plan, ("stage0",), TrainConfig(batch=8))


def test_frozen_parts_keep_their_weights_and_statistics() -> None:
    model = create_model("tsn_r10_8", 3)
    freeze(model, ["backbone"])
    learn_mode(model)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"head.linear.weight", "head.linear.bias"}
    before = {name: buffer.clone() for name, buffer in model.backbone.named_buffers()}
    model(torch.randn(2, 3, 2, 32, 32))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.backbone.named_buffers())
    freeze(model, ["*.bias"])
    assert not model.head.linear.bias.requires_grad
    with pytest.raises(UsageError, match="backbon: fits no part or parameter"):
        freeze(model, ["backbon"])


def test_a_factor_that_lifts_a_rate_beyond_reason_is_said() -> None:
    group = ParamGroup("classifier", (), 100.0)
    adamw = TrainConfig(optimizer="adamw", rate=1e-3, reference_batch=None)
    (line,) = check_group_rates([group], adamw)
    assert line.startswith(
        "classifier learns at a rate of 0.1, 100 times that of the run: too fast for adamw"
    )
    assert not check_group_rates([group], TrainConfig(rate=5e-4))  # the paper's, for SGD


def test_a_loss_that_grows_and_answers_at_chance_are_said_once() -> None:
    doubts = Doubts(chance=0.1)
    said = [doubts.after_epoch({"loss": 2.0 + epoch}, {"top1": 0.1}) for epoch in range(6)]
    lines = [line for epoch in said for line in epoch]
    assert len(lines) == 2 and "guessing" in lines[0] and "has grown for 3 epochs, to 5" in lines[1]
    assert not Doubts(chance=0.1).after_epoch({"loss": 1.0, "reward": 0.0}, {})
