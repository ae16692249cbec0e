"""AdaFocus and AR-Net from a list to a finished model: all stages in one run folder, resumed in any of them.

    out/stage0/ ... out/stage3/   a run of the common loop each
    out/best.safetensors          the finished model

Which stages a model has stands in train/recipes.py. Where only some run, the parts that earlier ones taught
are loaded, and nothing of later ones, whose results are out of date by then.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from foveate.config import to_dict
from foveate.data.lists import VideoList
from foveate.errors import OutputError, UsageError
from foveate.models.adafocus.parts import FocusModel
from foveate.models.adafocus.tsm import AdaFocusTSMConfig
from foveate.models.adafocus.v1 import AdaFocusConfig
from foveate.models.adafocus.v2 import AdaFocusV2, AdaFocusV2Config
from foveate.models.arnet import ARNet, ARNetConfig
from foveate.models.base import VideoModel
from foveate.models.zoo import entry
from foveate.train import focus
from foveate.train.checkpoint import load_checkpoint
from foveate.train.classifier import (
    Feed,
    TrainJob,
    decides,
    device_of,
    fingerprint,
    judge_list,
    named_model,
    prepare,
    save_best,
    start_from_file,
    train_classifier,
    weights_file,
)
from foveate.train.config import FocusPlan, TrainConfig
from foveate.train.distributed import World, open_world
from foveate.train.exits import demand_exits, solve_exits
from foveate.train.loop import Outcome, fit
from foveate.train.recipes import Stage, plan_stages
from foveate.train.run import Run
from foveate.weights.rename import load_strictly

log = logging.getLogger(__name__)

PLAIN = (str, int, float, bool)
EXITS = "exits"  # the stage after all others: no weights learn, reading learns when to stop


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
    model = named_model(job, lists[0])
    stages = plan_stages(model, job, plan)
    _demand_own_numbers(model, job)
    running = _running(stages, plan, job.out)
    exits = plan.exit_frames is not None if not plan.only else EXITS in plan.only
    if exits:
        demand_exits(model, plan.exit_frames)
    earlier = _earlier(stages, running, plan, job.out)
    _demand_order(stages, running, earlier, exits, job)
    _start(model, job, [*earlier, *running], heads=bool(running))
    for stage in earlier:
        _load_finished(model, stage, job.out)
    outcome = Outcome(model, 0, None, {})
    with open_world(job.train.timeout_s) as world:
        model = model.to(device_of(job.device, world))
        for stage in running:
            outcome = _run(stage, job, model, lists, world)
            if outcome.model is not model:  # averaged: the next stage starts from what this one is judged by
                model.load_state_dict(outcome.model.state_dict())
        if exits:
            assert isinstance(outcome.model, FocusModel) and plan.exit_frames is not None
            solve_exits(outcome.model, lists[0], plan.exit_frames, job, world)
            outcome = replace(outcome, scores=_judge(outcome.model, job, lists, world))
        if world.main:
            recipe = job.resolution if isinstance(model, ARNet) else plan
            training = {"videos": len(lists[0]), "plan": to_dict(recipe)}
            save_best(training, outcome.model, _made(job.out) / "best.safetensors")
    assert isinstance(outcome.model, VideoModel)
    return outcome.model, replace(outcome, best=None)  # the last weights are kept, not the best


def _demand_own_numbers(model: VideoModel, job: TrainJob) -> None:
    """UsageError for epochs and a rate of all stages, which would come to nothing: each has its own."""
    if isinstance(model, AdaFocusV2):  # has one
        return
    usual = TrainConfig()
    if (job.train.epochs, job.train.rate) != (usual.epochs, usual.rate):
        own = ("branch-epochs", "joint-rate") if isinstance(model, ARNet) else ("patch-epochs", "tune-rate")
        hint = f"use --{own[0]}, --{own[1]} and so on instead of --epochs and --rate"
        raise UsageError(job.model, "each of its stages has epochs and a rate of its own", hint)


def _running(stages: Sequence[Stage], plan: FocusPlan, out: Path) -> list[Stage]:
    """The stages that are to run; UsageError for a name that is none, or if nothing is left to do."""
    names = [*(stage.name for stage in stages), EXITS]
    for name in plan.only:
        if name not in names:
            raise UsageError(name, "no such stage", f"the stages are {', '.join(names)}")
    running = [stage for stage in stages if stage.epochs and (not plan.only or stage.name in plan.only)]
    if not running and EXITS not in plan.only:
        raise UsageError(out, "no stage is left to run", "give a stage some epochs")
    return running


def _earlier(stages: Sequence[Stage], running: Sequence[Stage], plan: FocusPlan, out: Path) -> list[Stage]:
    """The stages before the first that runs, if only some do, whose results are there."""
    if not plan.only:
        return []
    before = list(stages[: stages.index(running[0])] if running else stages)
    return [stage for stage in before if _checkpoint(out, stage.name).exists()]


def _demand_order(
    stages: Sequence[Stage], running: Sequence[Stage], earlier: Sequence[Stage], exits: bool, job: TrainJob
) -> None:
    """UsageError for a stage whose forerunner is neither run now nor loaded, without files to start from."""
    if not job.focus.only or weights_file(job) or (job.parts and running):
        return
    ready = {stage.name for stage in (*running, *earlier)}
    wanted = [(stage.name, stage.needs) for stage in running if stage.needs]
    for name, needs in [*wanted, *([(EXITS, stages[-1].name)] if exits else [])]:
        if needs in ready:
            continue
        if _checkpoint(job.out, needs).exists():
            cause = f"needs {needs}, whose result in {job.out} is older than that of {running[0].name}"
            raise UsageError(name, cause, "run it as well")
        raise UsageError(name, f"needs {needs}, which was not run in {job.out}", "run it first")


def _start(model: VideoModel, job: TrainJob, stages: Sequence[Stage], heads: bool) -> None:
    """The weights of the job's model file, which may lack the policies that these stages make.

    heads: whether the classifiers are going to learn; if not, the file must have those of the list.
    """
    path = weights_file(job)
    if path is None:
        return
    parts = {part for stage in stages for part, _ in stage.parts}
    source = start_from_file(model, path, parts & {"policy", "skip_policy"})
    if not heads and source.labels != model.labels:
        raise UsageError(job.videos, f"has other classes than {path}", "exits need those it was trained for")


def _judge(model: nn.Module, job: TrainJob, lists: Sequence[VideoList], world: World) -> dict[str, float]:
    """The measures on the validation list; none without one."""
    if len(lists) < 2:
        return {}
    return judge_list(model, lists[1], job.clips, job.crops, job.train.batch, job.workers, world)


def _run(stage: Stage, job: TrainJob, model: VideoModel, lists: Sequence[VideoList], world: World) -> Outcome:
    config = _config(stage, job.train)
    folder = job.out / stage.name
    log.info(
        "%s: %s learn, epochs %d", stage.name, " and ".join(part for part, _ in stage.parts), stage.epochs
    )
    feed = Feed(replace(job, train=config), model, lists[0], world)
    batches: Any = feed.batches
    if stage.rollout is not None:
        if feed.part < stage.least:
            cause = f"{feed.part} clip at once teaches a policy nothing"
            raise UsageError(stage.name, cause, "raise batch, or lower accumulate")
        seed = (config.seed, world.rank)  # processes make choices of their own
        batches = focus.Rollouts(model, feed.batches, stage.rollout, seed, stage.least)
    if stage.feed is not None:
        batches = stage.feed(batches)
    judge = partial(_judge, job=job, lists=lists, world=world)
    groups = focus.learn_only(model, *((model.get_submodule(part), rate) for part, rate in stage.parts))
    resume = job.resume and (folder / "config.yaml").exists()
    with Run(folder, to_dict(job) | {"resume": False}, resume, world.main) as run:
        return fit(
            model,
            batches,
            stage.objective,
            config,
            run,
            batches_per_epoch=feed.per_epoch,
            param_groups=groups,
            evaluate=judge if stage.judged and len(lists) > 1 else None,
            fingerprint=fingerprint(lists),
            decides=decides(job, model) | _chosen(stage),
            world=world,
        )


def _config(stage: Stage, train: TrainConfig) -> TrainConfig:
    """The job's settings with the epochs and the rate of a stage; a policy learns by Adam, without decay."""
    if stage.rollout is None:
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


def _chosen(stage: Stage) -> dict[str, Any]:
    """What has a part in the weights of a stage, beside its epochs and its rate."""
    numbers = {name: value for name, value in vars(stage.objective).items() if isinstance(value, PLAIN)}
    chosen = {"parts": stage.parts} | numbers | stage.chosen
    return {f"{stage.name}.{name}": value for name, value in chosen.items()}


def _load_finished(model: VideoModel, stage: Stage, out: Path) -> None:
    """What an earlier stage has taught; UsageError if it was broken off."""
    path = _checkpoint(out, stage.name)
    saved = load_checkpoint(path)
    done, epochs = saved["state"]["epoch"], saved["identity"]["epochs"]
    if done < epochs:
        cause = f"was broken off in {path.parent} after {done} of {epochs} epochs"
        raise UsageError(stage.name, cause, f"finish it with --only {stage.name} --resume")
    weights = saved["state"]["ema"] or saved["state"]["model"]
    for part, _ in stage.parts:
        learnt = {
            key.removeprefix(f"{part}."): value
            for key, value in weights.items()
            if key.startswith(f"{part}.")
        }
        load_strictly(model.get_submodule(part), learnt, f"{path}: {part}")


def _checkpoint(out: Path, stage: str) -> Path:
    return out / stage / "last.ckpt"


def _made(folder: Path) -> Path:
    """The folder, which no stage has made if only exits were solved; OutputError if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, (error.strerror or str(error)).lower()) from error
    return folder
