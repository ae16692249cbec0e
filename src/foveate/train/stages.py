"""AdaFocus and AR-Net from a list to a finished model: all stages in one run folder, resumed in any of them.

    out/stage0/ ... out/stage3/   a run of the common loop each
    out/best.safetensors          the finished model

Which stages a model has stands in train/recipes.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from foveate.config import to_dict
from foveate.errors import UsageError
from foveate.models.adafocus import AdaFocusConfig
from foveate.models.adafocus_tsm import AdaFocusTSMConfig
from foveate.models.adafocus_v2 import AdaFocusV2Config
from foveate.models.arnet import ARNet, ARNetConfig
from foveate.models.base import VideoModel
from foveate.models.zoo import entry
from foveate.train import focus
from foveate.train.checkpoint import load_checkpoint
from foveate.train.classifier import (
    Feed,
    TrainJob,
    build_model,
    device_of,
    fingerprint,
    judge_list,
    prepare,
    save_best,
    train_classifier,
)
from foveate.train.config import FocusPlan, TrainConfig
from foveate.train.distributed import World, open_world
from foveate.train.loop import Outcome, fit
from foveate.train.recipes import Stage, plan_stages
from foveate.train.rollouts import Rollouts
from foveate.train.run import Run

log = logging.getLogger(__name__)


def train_model(job: TrainJob) -> tuple[VideoModel, Outcome]:
    """Train any model of the zoo by the job: in stages if it has some, else as a classifier."""
    in_stages = AdaFocusConfig | AdaFocusV2Config | AdaFocusTSMConfig | ARNetConfig
    return train_stages(job) if isinstance(entry(job.model).config, in_stages) else train_classifier(job)


def train_stages(job: TrainJob) -> tuple[VideoModel, Outcome]:
    """Run every stage of the named model and leave `out/best.safetensors`.

    A stage that is finished is loaded, one that was broken off goes on, if the job resumes. Raises UsageError
    for a stage whose forerunner has not been run, DataError and Stopped as the loop does.
    """
    lists, plan = prepare(job), job.focus
    model = build_model(job, lists[0])
    stages = plan_stages(model, job, plan)
    _demand_order(stages, job, plan)
    outcome = None
    with open_world(job.train.timeout_s) as world:
        model = model.to(device_of(job.device, world))
        for stage in stages:
            if plan.only and stage.name not in plan.only:
                _load_finished(model, job.out / stage.name)
            elif stage.epochs:
                outcome = _run(stage, job, model, lists, world)
        if outcome is None:
            raise UsageError(job.out, "no stage is left to run", "give a stage some epochs")
        if world.main:
            recipe = job.resolution if isinstance(model, ARNet) else plan
            training = {"videos": len(lists[0]), "plan": to_dict(recipe)}
            save_best(training, outcome.model, job.out / "best.safetensors")
    return model, outcome


def _run(stage: Stage, job: TrainJob, model: VideoModel, lists: Sequence[Any], world: World) -> Outcome:
    config = _config(stage, job.train)
    folder = job.out / stage.name
    log.info(
        "%s: %s learn, epochs %d", stage.name, " and ".join(part for part, _ in stage.parts), stage.epochs
    )
    feed = Feed(replace(job, train=config), model, lists[0], world)
    batches: Any = feed.batches
    if stage.play is not None:
        batches = Rollouts(feed.batches, stage.play, config.seed)
    if stage.feed is not None:
        batches = stage.feed(batches)
    judge = partial(
        judge_list, clips=job.clips, crops=job.crops, batch=config.batch, workers=job.workers, world=world
    )
    groups = focus.learn_only(model, *((model.get_submodule(part), rate) for part, rate in stage.parts))
    resume = job.resume and (folder / "config.yaml").exists()
    with Run(folder, to_dict(replace(job, train=config)) | {"resume": False}, resume, world.main) as run:
        return fit(
            model,
            batches,
            stage.objective,
            config,
            run,
            batches_per_epoch=feed.per_epoch,
            param_groups=groups,
            evaluate=(lambda judged: judge(judged, lists[1])) if stage.judged and len(lists) > 1 else None,
            fingerprint=fingerprint(lists),
            world=world,
        )


def _config(stage: Stage, train: TrainConfig) -> TrainConfig:
    """The job's settings with the epochs and the rate of a stage; a policy learns by Adam, without decay."""
    if stage.play is None:
        return replace(train, epochs=stage.epochs, rate=stage.rate)
    return replace(
        train,
        epochs=stage.epochs,
        rate=stage.rate,
        optimizer="adamw",
        weight_decay=0.0,
        schedule="constant",
        reference_batch=None,
        precision="fp32",
    )


def _demand_order(stages: Sequence[Stage], job: TrainJob, plan: FocusPlan) -> None:
    """UsageError for a name that is no stage, or a stage whose forerunner is neither run now nor finished."""
    names = [stage.name for stage in stages]
    for name in plan.only:
        if name not in names:
            raise UsageError(name, "no such stage", f"the stages are {', '.join(names)}")
    for stage in stages:
        runs = not plan.only or stage.name in plan.only
        given = job.weights is not None and job.weights != "imagenet"
        before = (
            not plan.only
            or stage.needs in plan.only
            or given
            or (job.out / stage.needs / "last.ckpt").exists()
        )
        if runs and stage.needs and not before:
            raise UsageError(
                stage.name, f"needs {stage.needs}, which was not run in {job.out}", "run it first"
            )


def _load_finished(model: VideoModel, folder: Path) -> None:
    """The weights that an earlier stage left; nothing if it was not run."""
    if (folder / "last.ckpt").exists():
        model.load_state_dict(load_checkpoint(folder / "last.ckpt")["state"]["model"])
