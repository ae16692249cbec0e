"""The verb that trains, and the file that can hold its options."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from foveate.cli.inputs import demand, device_named
from foveate.cli.show import print_json, print_line, print_table, readable
from foveate.config import from_dict, read_yaml, shown, to_dict
from foveate.errors import UsageError
from foveate.measure.cost import peak_memory_mb
from foveate.report.folder import read_run
from foveate.report.page import LiveReport
from foveate.train.job import TrainJob
from foveate.train.recipes import Recipe, owner_of, recipe_for
from foveate.train.stages import train_model

OLD_PLANS = {"focus": "adafocus", "resolution": "arnet"}
"""Groups of options in the config.yaml of runs that were made before recipes had a plan each."""


def train_command(options: Sequence[str]) -> Callable[..., int]:
    """The verb with the options of one recipe: that of the model and recipe that the options choose.

    UsageError for an option of another recipe, which names that recipe.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--config", "--model", "--recipe"):
        parser.add_argument(option, nargs="?")
    chosen, rest = parser.parse_known_args(options)
    given = read_yaml(Path(chosen.config)) if chosen.config else {}
    model = str(chosen.model or given.get("model") or TrainJob.model)
    recipe = recipe_for(model, str(chosen.recipe or given.get("recipe") or ""))
    for word in rest:
        option = word.partition("=")[0]
        owners = owner_of(option[2:].replace("-", "_")) if option.startswith("--") else []
        if owners and recipe.name not in owners:
            cause = f"belongs to the recipe {' or '.join(owners)}; that of {model} is {recipe.name}"
            raise UsageError(option, cause, "leave it out")

    def train(job: TrainJob, config: Path | None = None, json: bool = False, nproc: int = 1) -> int:
        demand(1, nproc=nproc)
        return _train(job, json) if nproc == 1 else _launch(job, nproc, _without(options, "--nproc"))

    train.__doc__ = f"""Train or fine-tune on a list of videos or a folder with one sub-folder a class.

    The options are those of the recipe {recipe.name} of {model}: {recipe.about}.

    Args:
        job: What is trained, on what, and where it goes.
        config: YAML file of these options, such as config.yaml of a run; options given here override it.
        json: Print one JSON object with the last scores.
        nproc: Processes on this machine that share every batch; when one is lost all go on from the last
            checkpoint.
    """
    job_type: Any = TrainJob
    options_of: Any = tyro.conf.OmitArgPrefixes
    train.__annotations__["job"] = options_of[job_type[type(recipe.plan)]]
    train.__annotations__ |= {"config": Path | None, "json": bool, "nproc": int, "return": int}
    job = _job_of(given, recipe, chosen.config)
    if {"--flip", "--augment.flip"} & {*rest}:  # by itself the default, so that it is asked for on purpose
        job = replace(job, augment=replace(job.augment, flip=True, flip_sides=True))
    train.__defaults__ = (job, None, False, 1)
    return train


def _without(words: Sequence[str], option: str) -> list[str]:
    """The words without an option and its value."""
    kept, left = [], iter(words)
    for word in left:
        if word == option:
            next(left, None)
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def _launch(job: TrainJob, processes: int, words: Sequence[str]) -> int:
    from foveate.train.launch import launch  # whose processes need not load torchrun

    job.train.part(processes)  # refused before they start
    if device_named(job.device).type == "cuda" and processes > torch.cuda.device_count():
        cause = f"{processes} processes want a GPU each, and there are {torch.cuda.device_count()}"
        raise UsageError("--nproc", cause, "start fewer")
    return launch(processes, words, job.out, job.train.timeout_s)


def _train(job: TrainJob, json: bool) -> int:
    demand(1, clips=job.clips, crops=job.crops)
    demand(0, workers=job.workers)
    device_named(job.device)
    start = time.perf_counter()
    speaks = os.environ.get("RANK", "0") == "0"  # of several processes the first one
    live, page = LiveReport(job.out), None
    try:
        _, outcome = train_model(job, live.after_epoch)
    finally:  # one that failed or was stopped is looked at, too
        if speaks:
            page = live.write()
    if not speaks:
        return 0
    best = job.out / "best.safetensors"
    summary = read_run(job.out).summary() if page else []  # exits alone leave no record of a run
    result = {"model": str(best), "steps": outcome.steps, "seconds": time.perf_counter() - start}
    result |= {"memory_mb": peak_memory_mb(job.device), "best": outcome.best, **readable(outcome.scores)}
    result |= {"report": str(page) if page else None}
    if json:
        print_json(result | {"summary": summary})
    else:
        print_table(("measure", "value"), [row for row in result.items() if row[1] is not None])
        for line in summary:
            print_line(line)
        print_line(f"Use it: foveate predict VIDEO --model {shlex.quote(str(best))}")
    return 0


def read_job(path: Path) -> TrainJob:
    """The job in a YAML file; where and on what, if it does not say, is asked of the command line."""
    given = read_yaml(path)
    model = str(given.get("model") or TrainJob.model)
    return _job_of(given, recipe_for(model, str(given.get("recipe") or "")), path)


def _job_of(given: dict[str, Any], recipe: Recipe, path: object) -> TrainJob:
    """The settings of a file, and the recipe's own numbers where it says nothing."""
    given = _migrated(given, recipe, path)
    groups = {name: getattr(recipe, name) for name in ("train", "augment", "plan")}
    for name, usual in groups.items():
        said = given.pop(name, None) or {}
        where = f"{path}: {name}"
        groups[name] = from_dict(
            type(usual), to_dict(usual) | said if isinstance(said, dict) else said, where
        )
    job = from_dict(TrainJob, {"videos": "", "out": ""} | given, path)
    asked = {name: tyro.MISSING for name in ("videos", "out") if name not in given}
    return replace(job, **groups, **asked)


def _migrated(given: dict[str, Any], recipe: Recipe, path: object) -> dict[str, Any]:
    """The settings of a run of an earlier version in the words of this one."""
    found: dict[str, Any] = {}
    for group, of in OLD_PLANS.items():
        plan = given.pop(group, None) or {}
        if not isinstance(plan, dict):
            raise UsageError(path, f"{group}: expected keys and values, got {shown(plan)}")
        if "only" in plan:
            given.setdefault("only", plan.pop("only"))
        if recipe.name.startswith(of):  # what was None had the number that is the default now
            own = {f.name for f in fields(recipe.plan)}
            found |= {name: value for name, value in plan.items() if name in own and value is not None}
    return given | {"plan": found} if found else given
