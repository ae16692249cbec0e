"""From a job to a finished model: every stage of its recipe in one run folder, resumed in any of them.

    out/stage0/ ... out/stage3/   a run of the common loop each; a recipe of one stage has none of these
    out/best.safetensors          the finished model

Which stages a model has stands in train/recipes/. Where only some run, the parts that earlier ones taught
are loaded, and nothing of later ones, whose results are out of date by then.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from foveate.config import to_dict
from foveate.data.guards import check_openable, class_counts
from foveate.data.lists import VideoList, write_jsonl
from foveate.data.pool import check_guard
from foveate.errors import OutputError, UsageError
from foveate.infer.engine import EagerEngine
from foveate.models.base import VideoModel
from foveate.train.checkpoint import load_checkpoint
from foveate.train.config import TrainConfig
from foveate.train.distributed import ProcessGroup, open_world
from foveate.train.evaluation import Evaluation
from foveate.train.exits import check_exit_frames, solve_exits
from foveate.train.extend import begin_anew, rewrite_settings
from foveate.train.job import (
    TrainJob,
    TrainLoader,
    decides,
    device_of,
    evaluate_list,
    fingerprint,
    named_model,
    prepare,
    save_best,
    start_from_file,
    test_data,
    warnings_of,
    weights_file,
    without_flip,
)
from foveate.train.kept import KeptFeatures
from foveate.train.loop import Outcome, fit
from foveate.train.objective import balanced_weights
from foveate.train.optim import ParamGroup, freeze, learn_only, make_groups
from foveate.train.recipes import Recipe, Stage, with_plan
from foveate.train.recipes.focus_objectives import Rollouts
from foveate.train.run import Run
from foveate.weights.rename import load_strictly

log = logging.getLogger(__name__)

PLAIN = (str, int, float, bool)
KEPT = "kept"  # folder of the features that stages keep, as long as there is a stage to come
EXITS = "exits"  # the stage after all others: no weights learn, reading learns when to stop


def train_model(job: TrainJob, after_epoch: Callable[[], None] | None = None) -> tuple[VideoModel, Outcome]:
    """Run every stage of the model's recipe and leave `out/best.safetensors`.

    after_epoch: called by the main process when an epoch of any stage stands in the run folder.

    A stage that is finished is loaded, one that was broken off goes on, if the job resumes. What is bound to
    fail is refused before the run folder is touched: DataError for a list that cannot be used, UsageError for
    settings that do not fit or a stage whose forerunner has not been run. Stopped comes after a signal, with
    everything saved.
    """
    if job.workers:
        check_guard()
    job, recipe = with_plan(replace(job, resume=job.resume or job.extend))
    lists = prepare(job)
    job, sides = without_flip(job, lists[0])
    model = named_model(job, lists[0])
    for videos, path in zip(lists, (job.videos, job.val or job.videos), strict=False):
        check_openable(videos, path, job.train.bad_files_allowed(len(videos)), model.spec.modality)
    weighed = job.train.class_weights == "balanced"
    stages = recipe.stages(model, job, balanced_weights(class_counts(lists[0])) if weighed else ())
    _check_own_numbers(recipe, job)
    running = _running(stages, job.only, job.out)
    wanted = getattr(job.plan, "exit_frames", None)
    exits = wanted is not None if not job.only else EXITS in job.only
    exit_frames = check_exit_frames(model, wanted) if exits else 0.0
    earlier = _earlier(stages, running, job.only, job.out)
    _check_order(stages, running, earlier, exits, job)
    _start(model, job, [*earlier, *running], heads=bool(running))
    for stage in earlier:
        _load_finished(model, stage, job.out)
    for videos in lists[1:]:
        test_data(videos, model, job.clips, job.crops)
    outcome = Outcome(model, 0, None, {})
    with open_world(job.train.timeout_s, job.device) as world:
        for note in lists[0].notes if world.main else ():
            log.info("%s: %s", job.videos, note)
        for line in filter(None, (sides, *warnings_of(job, lists))) if world.main else ():
            log.warning("%s", line)
        model = model.to(device_of(job.device, world))
        if world.main and not (running and not running[-1].name):  # of the weights that are now replaced
            (job.out / "evaluation.npz").unlink(missing_ok=True)
        for place, stage in enumerate(running):
            follow = sum(later.epochs for later in running[place + 1 :])
            outcome = _run(stage, stages, follow, job, model, lists, world, after_epoch)
            if (
                stage.name and outcome.model is not model
            ):  # averaged: the next stage starts from what is judged
                model.load_state_dict(outcome.model.state_dict())
        shutil.rmtree(job.out / KEPT, ignore_errors=True)
        if exits:
            outcome = _with_exits(outcome, exit_frames, job, lists, world)
        if running and not running[-1].name:  # whose best weights are kept as it goes
            return model, outcome
        if world.main:
            training = {"videos": len(lists[0]), "plan": to_dict(job.plan) | {"only": list(job.only)}}
            save_best(training, outcome.model, _made(job.out) / "best.safetensors")
    return cast(VideoModel, outcome.model), replace(
        outcome, best=None
    )  # the last weights are kept, not the best


def _check_own_numbers(recipe: Recipe, job: TrainJob) -> None:
    """UsageError for epochs and a rate of all stages, which would come to nothing: each has its own."""
    usual = recipe.train
    if recipe.own_rates and (job.train.epochs, job.train.rate) != (usual.epochs, usual.rate):
        hint = (
            f"use --{recipe.own_rates[0]}, --{recipe.own_rates[1]} and so on instead of --epochs and --rate"
        )
        raise UsageError(job.model, "each of its stages has epochs and a rate of its own", hint)


def _running(stages: Sequence[Stage], only: Sequence[str], out: Path) -> list[Stage]:
    """The stages that are to run; UsageError for a name that is none, or if nothing is left to do."""
    names = [*(stage.name for stage in stages if stage.name), EXITS]
    for name in only:
        if name not in names:
            raise UsageError(name, "no such stage", f"the stages are {', '.join(names)}")
    running = [stage for stage in stages if stage.epochs and (not only or stage.name in only)]
    if not running and EXITS not in only:
        raise UsageError(out, "no stage is left to run", "give a stage some epochs")
    return running


def _earlier(
    stages: Sequence[Stage], running: Sequence[Stage], only: Sequence[str], out: Path
) -> list[Stage]:
    """The stages before the first that runs, if only some do, whose results are there."""
    if not only:
        return []
    before = list(stages[: stages.index(running[0])] if running else stages)
    return [stage for stage in before if _checkpoint(out, stage.name).exists()]


def _check_order(
    stages: Sequence[Stage], running: Sequence[Stage], earlier: Sequence[Stage], exits: bool, job: TrainJob
) -> None:
    """UsageError for a stage whose forerunner is neither run now nor loaded, without files to start from."""
    if not job.only or weights_file(job) or (job.parts and running):
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


def _with_exits(
    outcome: Outcome, frames: float, job: TrainJob, lists: Sequence[VideoList], world: ProcessGroup
) -> Outcome:
    """Solve the thresholds of early exit, and evaluate the model that follows them."""
    solve_exits(cast(VideoModel, outcome.model), lists[0], frames, job, world)
    if len(lists) < 2:
        return replace(outcome, scores={})
    evaluation = _evaluate(outcome.model, job, lists[1], world)
    if world.main:
        evaluation.save(_made(job.out) / "evaluation.npz")
    return replace(outcome, scores=evaluation.measures)


def _evaluate(model: nn.Module, job: TrainJob, videos: VideoList, world: ProcessGroup) -> Evaluation:
    engine = EagerEngine(cast(VideoModel, model))
    return evaluate_list(engine, videos, job.clips, job.crops, job.train.batch, job.workers, world)


def _run(
    stage: Stage,
    stages: Sequence[Stage],
    follow: int,
    job: TrainJob,
    model: VideoModel,
    lists: Sequence[VideoList],
    world: ProcessGroup,
    after_epoch: Callable[[], None] | None,
) -> Outcome:
    """Run one of the stages, which so many epochs of later ones follow."""
    config = _config(stage, job.train) if stage.name else job.train
    loader = TrainLoader(replace(job, train=config), model, lists[0], world)
    settings = to_dict(job) | {"resume": False, "extend": False}
    run = Run(job.out / stage.name, settings, _resumes(stage, job), world.main)
    kept = KeptFeatures(stage.keep, model, loader, job.out / KEPT / stage.keep.name) if stage.keep else None
    latest: list[Evaluation] = []

    def evaluate(judged: nn.Module) -> dict[str, float]:
        latest[:] = [_evaluate(judged, job, lists[1], world)]
        if stage.name and world.main:  # the last weights of a stage are kept
            latest[0].save(run.evaluation)
        return latest[0].measures

    def keep_best(judged: nn.Module, path: Path) -> None:
        save_best(_summary(job, lists), judged, path)
        for evaluation in latest:
            evaluation.save(run.evaluation)

    def extend() -> None:
        rewrite_settings([job.out / each.name for each in stages], settings)
        begin_anew([job.out / later.name for later in stages[stages.index(stage) + 1 :]], stage.name)

    with run:
        if job.extend and not run.resumes and world.main:
            extend()
        if job.val_share and world.main:
            for videos, name in zip(lists, ("train.jsonl", "val.jsonl"), strict=True):
                write_jsonl(videos, job.out / name)
        return fit(
            model,
            _batches(stage, model, loader, kept.batches if kept else loader.batches),
            stage.objective,
            config,
            run,
            batches_per_epoch=loader.per_epoch,
            param_groups=_groups(stage, job, model),
            evaluate=evaluate if stage.judged and len(lists) > 1 else None,
            save_best=None if stage.name else keep_best,
            after_epoch=after_epoch,
            extend=extend if job.extend else None,
            later_steps=follow * math.ceil(loader.per_epoch / config.accumulate),
            before=kept.fill if kept else None,
            fingerprint=fingerprint(lists),
            decides=decides(job, model) | _chosen(stage) | _frozen(job),
            chance=0.0 if lists[0].multi_label else 1 / lists[0].num_classes,
            world=world,
        )


def _resumes(stage: Stage, job: TrainJob) -> bool:
    """Of a run of several stages, those that were not begun start from the beginning."""
    return job.resume and (not stage.name or (job.out / stage.name / "config.yaml").exists())


def _batches(stage: Stage, model: VideoModel, loader: TrainLoader, batches: Any) -> Any:
    """The batches of a stage; UsageError if they are too small for a policy."""
    if stage.collect_rollout is not None:
        if loader.part < stage.least:
            cause = f"{loader.part} clip at once teaches a policy nothing"
            raise UsageError(stage.name, cause, "raise batch, or lower accumulate")
        seed = (loader.job.train.seed, loader.world.rank)  # processes make choices of their own
        batches = Rollouts(model, batches, stage.collect_rollout, seed, stage.least)
    return batches if stage.feed is None else stage.feed(batches)


def _groups(stage: Stage, job: TrainJob, model: VideoModel) -> list[ParamGroup] | None:
    """What learns in a stage and how fast, without what the job freezes; UsageError if nothing is left."""
    if stage.parts:
        learn_only(model, *((model.get_submodule(part), rate) for part, rate in stage.parts))
    freeze(model, job.freeze)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        cause = f"nothing is left to learn{' in ' + stage.name if stage.name else ''}"
        raise UsageError("--freeze", cause, "freeze less, or leave the stage out with 0 epochs")
    if not stage.parts:
        return list(make_groups(model, job.train.groups)) if job.freeze else None
    log.info("%s: %s learn, epochs %d", stage.name, " and ".join(p for p, _ in stage.parts), stage.epochs)
    named = ((part, model.get_submodule(part), rate) for part, rate in stage.parts)
    groups = [
        ParamGroup(part, tuple(p for p in module.parameters() if p.requires_grad), rate)
        for part, module, rate in named
    ]
    return [group for group in groups if group.params]


def _summary(job: TrainJob, lists: Sequence[VideoList]) -> dict[str, Any]:
    return {"from": job.weights, "videos": len(lists[0]), "epochs": job.train.epochs}


def _frozen(job: TrainJob) -> dict[str, Any]:
    return {"freeze": list(job.freeze)} if job.freeze else {}


def _config(stage: Stage, train: TrainConfig) -> TrainConfig:
    """The job's settings with the epochs and the rate of a stage; a policy learns by Adam, without decay."""
    if stage.collect_rollout is None:
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
    if not stage.name:
        return {}
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
