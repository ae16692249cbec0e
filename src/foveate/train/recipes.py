"""What the stages of each model are: what learns in each, how fast, and which stage it starts from.

The stages themselves are objectives of train/focus.py, focus_clip.py, rollouts.py and resolutions.py. The
defaults are the papers' recipes: ActivityNet, and Something-Something for AdaFocus-TSM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from foveate.errors import UsageError
from foveate.models.adafocus.tsm import AdaFocusTSM
from foveate.models.adafocus.v1 import AdaFocus
from foveate.models.adafocus.v2 import AdaFocusV2
from foveate.models.arnet import ARNet
from foveate.models.base import VideoModel
from foveate.train import focus, resolutions
from foveate.train.classifier import TrainJob
from foveate.train.config import FocusPlan
from foveate.train.objective import Classification, loss_function
from foveate.train.ppo import PPOConfig

N = TypeVar("N", int, float)
GLANCE = (("glance", 1.0), ("glance_head", 1.0))  # what learns in stage 0
LOCAL = (("local", 1.0), ("local_head", 1.0))
JOINT = ("accuracy_weight", "cost_weight", "balance_weight", "temperature", "temperature_decay")


@dataclass(frozen=True)
class Stage:
    """One run of the loop. parts: names of what learns, with factors on the rate."""

    name: str
    epochs: int
    rate: float
    parts: tuple[tuple[str, float], ...]
    objective: Any
    rollout: Callable[[Any, Any], Any] | None = None  # stages by reinforcement
    least: int = 1  # clips that a policy needs at once to learn
    feed: Callable[[Any], Any] | None = None  # what becomes of the batches on their way
    judged: bool = False  # whether the model's own answers mean something after it
    needs: str = ""  # the stage whose result this one starts from
    chosen: dict[str, Any] = field(default_factory=dict)  # what else of the plan it follows, by name


def plan_stages(model: VideoModel, job: TrainJob, plan: FocusPlan) -> list[Stage]:
    """The stages of a model, in order; UsageError for one that has none."""
    if isinstance(model, AdaFocus):
        return _stages_v1(model, job, plan)
    if isinstance(model, AdaFocusV2):
        loss = loss_function(job.train.loss, job.train.label_smoothing)
        parts = [("glance", 0.5), ("glance_head", 0.5), ("local", 1.0), ("local_head", 1.0)]
        together = (*parts, ("classifier", 5.0), ("policy", 0.1))
        return [
            Stage(
                "together",
                job.train.epochs,
                job.train.rate,
                together,
                focus.EndToEndObjective(loss),
                judged=True,
            )
        ]
    if isinstance(model, AdaFocusTSM):
        return _stages_tsm(model, job, plan)
    if isinstance(model, ARNet):
        return _stages_arnet(model, job)
    raise UsageError(job.model, "is not trained in stages")


def _stages_v1(model: AdaFocus, job: TrainJob, plan: FocusPlan) -> list[Stage]:
    if model.config.classifier == "mean" and job.train.loss == "bce":
        cause = "answers with probabilities that sum to 1, which do not fit --loss bce"
        raise UsageError("classifier=mean", cause, "use --loss soft_cross_entropy, or classifier=gru")
    loss = loss_function(job.train.loss, job.train.label_smoothing)
    skip = plan.skip_share if model.skip_policy is not None else 0.0
    ppo = PPOConfig()
    random = focus.PatchTraining(loss, "random", plan.glance_dropout, skip)
    learning = (("local", 1.0), ("classifier", _given(plan.patch_classifier, 100.0)))
    glance, local = (focus.Warmup(loss, net, plan.warmup) for net in ("glance", "local"))
    epochs, rate = _given(plan.patch_epochs, 50), _given(plan.patch_rate, 5e-4)
    stages = [
        Stage("stage0", _given(plan.glance_epochs, 15), plan.glance_rate, GLANCE, glance),
        Stage("stage0_local", _given(plan.local_epochs, 15), plan.local_rate, LOCAL, local),
        Stage("stage1", epochs, rate, learning, random, judged=True, needs="stage0"),
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
        stages += [_tuning(plan, tuning, before, stages[-1].name)]
    return stages


def _learning(model: AdaFocus, plan: FocusPlan, ppo: PPOConfig, name: str, needs: str) -> Stage:
    collect, objective = focus.PlaceRollout(plan.reward, ppo), focus.PolicyObjective(ppo)
    size = plan.policy_epochs, plan.policy_rate, (("policy", 1.0),)
    return Stage(name, *size, objective, collect, needs=needs, chosen={"reward": plan.reward})


def _skipping(model: AdaFocus, plan: FocusPlan, ppo: PPOConfig, needs: str) -> Stage:
    collect, objective = focus.LookRollout(plan.skip_price, ppo), focus.PolicyObjective(ppo, "skip")
    parts = (("skip_policy", 1.0),)
    size = plan.policy_epochs, plan.policy_rate, parts
    return Stage("stage2_skip", *size, objective, collect, needs=needs, chosen={"price": plan.skip_price})


def _tuning(plan: FocusPlan, objective: focus.PatchTraining, name: str, needs: str) -> Stage:
    parts, rate = (("classifier", 1.0),), _given(plan.tune_rate, 5e-3)
    return Stage(name, plan.tune_epochs, rate, parts, objective, judged=True, needs=needs)


def _stages_tsm(model: AdaFocusTSM, job: TrainJob, plan: FocusPlan) -> list[Stage]:
    """The intended recipe; the released schedule left nearly all of it at a rate of zero."""
    loss = loss_function(job.train.loss, job.train.label_smoothing)
    dropout = model.config.dropout
    glance, local = (focus.Warmup(loss, net, "clip", dropout) for net in ("glance", "local"))
    random = focus.PatchTraining(loss, "random", local_dropout=dropout)
    learning = (("local", 1.0), ("local_head", _given(plan.patch_classifier, 1000.0)))
    epochs, rate = _given(plan.patch_epochs, 10), _given(plan.patch_rate, 1e-5)
    stages = [
        Stage("stage0", _given(plan.glance_epochs, 50), plan.glance_rate, GLANCE, glance),
        Stage("stage0_local", _given(plan.local_epochs, 50), plan.local_rate, LOCAL, local),
        Stage("stage1", epochs, rate, learning, random, judged=True, needs="stage0"),
    ]
    if model.policy is not None:
        ppo = PPOConfig()
        objective, collect = focus.PolicyObjective(ppo), focus.PlaceRollout(plan.reward, ppo)
        size = plan.policy_epochs, plan.policy_rate, (("policy", 1.0),)
        least = 2  # its batch norms, and its returns, which are compared with each other
        chosen = {"reward": plan.reward}
        stages += [Stage("stage2", *size, objective, collect, least, needs="stage1", chosen=chosen)]
    tuning, rate = focus.PatchTraining(loss, "policy"), _given(plan.tune_rate, 1e-3)
    head, before = (("local_head", 1.0),), stages[-1].name
    return [*stages, Stage("stage3", plan.tune_epochs, rate, head, tuning, judged=True, needs=before)]


def _stages_arnet(model: ARNet, job: TrainJob) -> list[Stage]:
    loss, plan = loss_function(job.train.loss, job.train.label_smoothing), job.resolution
    nets = (("nets", 1.0), ("heads", 1.0), ("policy_head", 1.0))
    looking = (*nets, ("glance", 1.0), ("policy.rnn", 1.0))
    warmup = resolutions.BranchWarmup(loss)
    joint = resolutions.JointTraining(loss, resolutions.relative_costs(model), plan)
    fixed = resolutions.FixedTraining(Classification(job.train.loss, job.train.label_smoothing))
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
            chosen={name: getattr(plan, name) for name in JOINT},
        ),
        Stage("fixed", plan.fixed_epochs, plan.fixed_rate, nets, fixed, judged=True, needs="joint"),
    ]


def _given(value: N | None, usual: N) -> N:
    """What the plan says, or else the paper's number."""
    return usual if value is None else value
