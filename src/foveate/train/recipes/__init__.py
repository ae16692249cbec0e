"""Every recipe by name. A line of the zoo (models/zoo.py) says which one trains a model."""

from __future__ import annotations

from dataclasses import fields, replace

from foveate.config import nearest
from foveate.errors import UsageError
from foveate.models.zoo import model_spec
from foveate.train.job import TrainJob
from foveate.train.recipes.adafocus import (
    ADAFOCUS,
    ADAFOCUS_TSM,
    ADAFOCUS_V2,
    ADAFOCUS_V2_TSM,
    SMALL_ADAFOCUS,
)
from foveate.train.recipes.arnet import ARNET
from foveate.train.recipes.attention import ATTENTION
from foveate.train.recipes.classifier import CLASSIFIER, SMALL_CLASSIFIER
from foveate.train.recipes.recipe import Recipe, Stage
from foveate.train.recipes.uni import (
    SMALL_UNI,
    UNI,
    UNI_FCVID,
    UNI_JESTER,
    UNI_MINI_KINETICS,
    UNI_TSM,
    UNI_TSM_V1,
    UNI_X3D,
)
from foveate.train.recipes.uni_any import SMALL_UNI_ANY, UNI_ANY

__all__ = ["RECIPES", "VARIANTS", "Recipe", "Stage", "owner_of", "recipe_for", "with_plan"]

RECIPES: dict[str, Recipe] = {
    "classifier": CLASSIFIER,
    "adafocus": ADAFOCUS,
    "adafocus_v2": ADAFOCUS_V2,
    "adafocus_v2_tsm": ADAFOCUS_V2_TSM,
    "adafocus_tsm": ADAFOCUS_TSM,
    "arnet": ARNET,
    "attention": ATTENTION,
    "uni_adafocus": UNI,
    "uni_adafocus_any": UNI_ANY,
    "uni_adafocus_tsm": UNI_TSM,
    "uni_adafocus_x3d": UNI_X3D,
}
VARIANTS: dict[str, dict[str, Recipe]] = {
    "classifier": {"small": SMALL_CLASSIFIER},
    "adafocus": {"attention": ATTENTION, "small": SMALL_ADAFOCUS},
    "uni_adafocus": {"fcvid": UNI_FCVID, "mini_kinetics": UNI_MINI_KINETICS, "small": SMALL_UNI},
    "uni_adafocus_any": {"small": SMALL_UNI_ANY},
    "uni_adafocus_tsm": {"something_v1": UNI_TSM_V1, "jester": UNI_JESTER},
}
"""What `--recipe` may name in place of a model's own: small, with numbers for some hundred videos and a CPU;
those of other data sets; attention, for a model that is set to suit, `--settings policy=attention`."""


def recipe_for(model: str, wanted: str = "") -> Recipe:
    """The recipe of a model of the zoo, or `wanted` if it fits; UsageError if there is none such."""
    own = model_spec(model).recipe
    variants = VARIANTS.get(own, {})
    if wanted in ("", own):
        return RECIPES[own]
    if wanted in variants:
        return variants[wanted]
    known = (own, *variants)
    if wanted in RECIPES or any(wanted in others for others in VARIANTS.values()):
        raise UsageError(f"--recipe {wanted}", f"does not fit {model}", f"use {' or '.join(known)}")
    raise UsageError(f"--recipe {wanted}", "no recipe of this name", nearest(wanted, known))


def with_plan(job: TrainJob) -> tuple[TrainJob, Recipe]:
    """The job with the plan of its recipe, by default that recipe's own; UsageError for another's plan."""
    recipe = recipe_for(job.model, job.recipe)
    if job.plan is None:
        return replace(job, plan=recipe.plan), recipe
    if type(job.plan) is not type(recipe.plan):
        cause = f"{type(job.plan).__name__} is not the plan of the recipe {recipe.name}"
        raise UsageError(job.model, cause, f"give a {type(recipe.plan).__name__}")
    return job, recipe


def owner_of(option: str) -> list[str]:
    """The names of the recipes that have an option such as patch_epochs."""
    return [name for name, recipe in RECIPES.items() if option in {f.name for f in fields(recipe.plan)}]
