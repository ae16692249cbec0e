"""Every recipe by name. A line of the zoo (models/zoo.py) says which one trains a model."""

from __future__ import annotations

from dataclasses import fields, replace

from foveate.config import nearest
from foveate.errors import UsageError
from foveate.models.zoo import model_spec
from foveate.train.job import TrainJob
from foveate.train.recipes.adafocus import ADAFOCUS, ADAFOCUS_TSM, ADAFOCUS_V2, SMALL_ADAFOCUS
from foveate.train.recipes.arnet import ARNET
from foveate.train.recipes.attention import ATTENTION
from foveate.train.recipes.classifier import CLASSIFIER, SMALL_CLASSIFIER
from foveate.train.recipes.recipe import Recipe, Stage

__all__ = ["RECIPES", "SMALL", "Recipe", "Stage", "owner_of", "recipe_for", "with_plan"]

RECIPES: dict[str, Recipe] = {
    "classifier": CLASSIFIER,
    "adafocus": ADAFOCUS,
    "adafocus_v2": ADAFOCUS_V2,
    "adafocus_tsm": ADAFOCUS_TSM,
    "arnet": ARNET,
    "attention": ATTENTION,
}
SMALL: dict[str, Recipe] = {"classifier": SMALL_CLASSIFIER, "adafocus": SMALL_ADAFOCUS}
"""The same stages with numbers for some hundred videos and a CPU: `--recipe small`."""
ALSO: dict[str, tuple[str, ...]] = {"adafocus": ("attention",)}
"""Recipes for models of another one that are set to suit: `--settings policy=attention`."""


def recipe_for(model: str, wanted: str = "") -> Recipe:
    """The recipe of a model of the zoo, or `wanted` if it fits; UsageError if there is none such."""
    own = model_spec(model).recipe
    if wanted in ("", own):
        return RECIPES[own]
    if wanted == "small" and own in SMALL:
        return SMALL[own]
    if wanted in ALSO.get(own, ()):
        return RECIPES[wanted]
    known = (own, *ALSO.get(own, ()), *(("small",) if own in SMALL else ()))
    if wanted in RECIPES or wanted == "small":
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
