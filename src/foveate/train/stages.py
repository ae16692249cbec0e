"""AdaFocus and AR-Net from a list to a finished model: all stages in one run folder, resumed in any of them.

    out/stage0/ ... out/stage3/   a run of the common loop each
    out/best.safetensors          the finished model

The stages themselves are objectives of train/focus.py and train/resolutions.py; here stands which follow each
other, what learns in each and how fast. The defaults are the papers' recipes for ActivityNet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from foveate.config import to_dict
from foveate.errors import UsageError
from foveate.models.adafocus import AdaFocus, AdaFocusConfig
from foveate.models.adafocus_tsm import AdaFocusTSM, AdaFocusTSMConfig
from foveate.models.adafocus_v2 import AdaFocusV2, AdaFocusV2Config
from foveate.models.arnet import ARNet, ARNetConfig
from foveate.models.base import VideoModel
from foveate.models.zoo import entry
from foveate.train import focus, resolutions
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
from foveate.train.objective import Classification, ClipBatch, loss_function
from foveate.train.ppo import PPOConfig
from foveate.train.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One run of the loop. parts: names of what learns, with factors on the rate."""

    name: str
    epochs: int
    rate: float
    parts: tuple[tuple[str, float], ...]
    objective: Any
    play: focus.Player | None = None  # stages by reinforcement
    feed: Callable[[Any], Any] | None = None  # what becomes of the batches on their way
    judged: bool = False  # whether the model's own answers mean something after it
    needs: str = ""  # the stage whose result this one starts from


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


def plan_stages(model: VideoModel, job: TrainJob, plan: FocusPlan) -> list[Stage]:
    """The stages of a model, in order; UsageError for one that has none."""
    if isinstance(model, AdaFocus):
        return _stages_v1(model, job, plan)
    if isinstance(model, AdaFocusV2):
        loss = loss_function(job.train.loss, job.train.label_smoothing)
        parts = [("glance", 0.5), ("glance_head", 0.5), ("local", 1.0), ("local_head", 1.0)]
        together = (*parts, ("classifier", 5.0), ("policy", 0.1))
        return [
            Stage("together", job.train.epochs, job.train.rate, together, focus.Together(loss), judged=True)
        ]
    if isinstance(model, AdaFocusTSM):
        return _stages_tsm(model, job, plan)
    if isinstance(model, ARNet):
        return _stages_arnet(model, job)
    raise UsageError(job.model, "is not trained in stages")


def _stages_v1(model: AdaFocus, job: TrainJob, plan: FocusPlan) -> list[Stage]:
    loss = loss_function(job.train.loss, job.train.label_smoothing)
    skip = plan.skip_share if model.skip_policy is not None else 0.0
    ppo = PPOConfig()
    random = focus.PatchTraining(loss, "random", plan.glance_dropout, skip)
    learning = (("local", 1.0), ("classifier", plan.patch_classifier))
    glance, local = focus.GlanceWarmup(loss), focus.LocalWarmup(loss)
    heads = (("glance", 1.0), ("glance_head", 1.0)), (("local", 1.0), ("local_head", 1.0))
    stages = [
        Stage("stage0", plan.glance_epochs, plan.glance_rate, heads[0], glance),
        Stage("stage0_local", plan.local_epochs, plan.local_rate, heads[1], local),
        Stage("stage1", plan.patch_epochs, plan.patch_rate, learning, random, judged=True, needs="stage0"),
    ]
    if model.policy is None:
        return [*stages, _tuning(plan, focus.PatchTraining(loss, "policy"), "stage3", "stage1")]
    before = "stage1"
    for turn in range(1, plan.turns + 1):
        suffix = "" if turn == 1 else f"_{turn}"
        stages += [_learning(model, plan, ppo, f"stage2{suffix}", before)]
        if model.skip_policy is not None and turn == plan.turns:
            stages += [_skipping(model, plan, ppo, stages[-1].name)]
        tuning = focus.PatchTraining(loss, "policy", skip=skip, obey=False)
        if turn == plan.turns:
            tuning = focus.PatchTraining(loss, "policy")
        before = f"stage3{suffix}"
        stages += [_tuning(plan, tuning, before, f"stage2{suffix}")]
    return stages


def _learning(model: AdaFocus, plan: FocusPlan, ppo: PPOConfig, name: str, needs: str) -> Stage:
    play, objective = partial(_play, model, plan.reward, ppo), focus.PolicyObjective(ppo)
    return Stage(name, plan.policy_epochs, plan.policy_rate, (("policy", 1.0),), objective, play, needs=needs)


def _skipping(model: AdaFocus, plan: FocusPlan, ppo: PPOConfig, needs: str) -> Stage:
    play, objective = partial(_play_skips, model, plan.skip_price, ppo), focus.PolicyObjective(ppo, "skip")
    parts = (("skip_policy", 1.0),)
    return Stage("stage2_skip", plan.policy_epochs, plan.policy_rate, parts, objective, play, needs=needs)


def _tuning(plan: FocusPlan, objective: focus.PatchTraining, name: str, needs: str) -> Stage:
    parts = (("classifier", 1.0),)
    return Stage(name, plan.tune_epochs, plan.tune_rate, parts, objective, judged=True, needs=needs)


def _stages_tsm(model: AdaFocusTSM, job: TrainJob, plan: FocusPlan) -> list[Stage]:
    """The intended recipe; the released schedule left nearly all of it at a rate of zero."""
    loss = loss_function(job.train.loss, job.train.label_smoothing)
    learning = (("local", 1.0), ("local_head", plan.patch_classifier))
    glance = focus.ClipGlanceWarmup(loss)
    random, tuning = focus.ClipPatchTraining(loss, "random"), focus.ClipPatchTraining(loss, "policy")
    heads = (("glance", 1.0), ("glance_head", 1.0))
    objective, play = focus.ClipPolicyObjective(PPOConfig()), partial(_play_clip, model)
    policy, head = (("policy", 1.0),), (("local_head", 1.0),)
    return [
        Stage("stage0", plan.glance_epochs, plan.glance_rate, heads, glance),
        Stage("stage1", plan.patch_epochs, plan.patch_rate, learning, random, judged=True, needs="stage0"),
        Stage("stage2", plan.policy_epochs, plan.policy_rate, policy, objective, play, needs="stage1"),
        Stage("stage3", plan.tune_epochs, plan.tune_rate, head, tuning, judged=True, needs="stage2"),
    ]


def _stages_arnet(model: ARNet, job: TrainJob) -> list[Stage]:
    loss, plan = loss_function(job.train.loss, job.train.label_smoothing), job.resolution
    nets = (("nets", 1.0), ("heads", 1.0), ("policy_head", 1.0))
    looking = (*nets, ("glance", 1.0), ("policy.rnn", 1.0))
    warmup = resolutions.BranchWarmup(loss)
    joint = resolutions.JointTraining(loss, resolutions.relative_costs(model), plan)
    device = next(model.parameters()).device
    answer = Classification(model.spec, job.train.loss, job.train.label_smoothing, device)
    fixed = resolutions.FixedTraining(answer)
    return [
        Stage("branches", plan.branch_epochs, plan.branch_rate, looking, warmup),
        Stage(
            "joint",
            plan.joint_epochs,
            plan.joint_rate,
            (*looking, ("policy.actions", 1.0)),
            joint,
            feed=partial(resolutions.Annealing, plan=plan),
            judged=True,
            needs="branches",
        ),
        Stage("fixed", plan.fixed_epochs, plan.fixed_rate, nets, fixed, judged=True, needs="joint"),
    ]


def _run(stage: Stage, job: TrainJob, model: VideoModel, lists: Sequence[Any], world: World) -> Outcome:
    config = _config(stage, job.train)
    folder = job.out / stage.name
    log.info(
        "%s: %s learn, epochs %d", stage.name, " and ".join(part for part, _ in stage.parts), stage.epochs
    )
    feed = Feed(replace(job, train=config), model, lists[0], world)
    batches: Any = feed.batches
    if stage.play is not None:
        batches = focus.Rollouts(feed.batches, stage.play, config.seed)
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
    from foveate.train.checkpoint import load_checkpoint

    if (folder / "last.ckpt").exists():
        model.load_state_dict(load_checkpoint(folder / "last.ckpt")["state"]["model"])


def _target(model: VideoModel, labels: Tensor) -> Tensor:
    """1 for each true class, (B, classes)."""
    return F.one_hot(labels, model.num_classes).float() if labels.dim() == 1 else labels.float()


def _play(model: AdaFocus, reward: focus.Reward, ppo: PPOConfig, batch: ClipBatch) -> focus.Rollout:
    clip, labels = focus.clip_of(model, batch)
    scene = focus.LiveScene(model, model.in_order(clip)[0], _target(model, labels))
    return focus.play(model.eval(), scene, reward, ppo, getattr(batch, "bad", ()))


def _play_skips(model: AdaFocus, price: float, ppo: PPOConfig, batch: ClipBatch) -> focus.Rollout:
    clip, labels = focus.clip_of(model, batch)
    scene = focus.LiveScene(model, model.in_order(clip)[0], _target(model, labels))
    return focus.play_skips(model.eval(), scene, price, ppo, getattr(batch, "bad", ()))


def _play_clip(model: AdaFocusTSM, batch: ClipBatch) -> focus.Rollout:
    clip, labels = focus.clip_of(model, batch)
    return focus.play_clip(model.eval(), clip, _target(model, labels), getattr(batch, "bad", ()))
