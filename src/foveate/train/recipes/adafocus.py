"""The recipes of the AdaFocus family: what learns in each stage, how fast, from which stage it starts.

The defaults are the papers' numbers, for SGD and batches of 64 clips: ActivityNet, and Something-Something
for AdaFocus-TSM. What the stages minimise stands in focus_objectives.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from foveate.errors import UsageError
from foveate.models.adafocus.tsm import AdaFocusTSM
from foveate.models.adafocus.v1 import AdaFocus
from foveate.models.adafocus.v2 import AdaFocusV2
from foveate.models.adafocus.v2_tsm import AdaFocusV2TSM
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.kept import Keep
from foveate.train.objective import loss_function
from foveate.train.ppo import PPOConfig
from foveate.train.recipes import focus_objectives as objectives
from foveate.train.recipes.recipe import Recipe, Stage
from foveate.video.transform import Augment

GLANCE = (("glance", 1.0), ("glance_head", 1.0))  # what learns in stage 0
LOCAL = (("local", 1.0), ("local_head", 1.0))
PPO = PPOConfig()


@dataclass(frozen=True)
class AdaFocusPlan:
    """Epochs and rates of the stages of AdaFocus; 0 epochs leave one out."""

    glance_epochs: int = 15  # stage 0: the glance alone
    glance_rate: float = 0.01  # of stage 0, for a batch of `reference_batch` clips, as all rates here
    local_epochs: int = 15  # stage 0: the local network alone, on whole frames
    local_rate: float = 0.01  # of the same
    warmup: Literal["clip", "frames"] = "clip"  # stage 0: loss of the clip's mean logits, or of each frame's
    patch_epochs: int = 50  # stage 1: local network and classifier on random patches
    patch_rate: float = 5e-4  # of the local network
    patch_classifier: float = 100.0  # the classifier learns so many times as fast, which is for SGD
    policy_epochs: int = 50  # stage 2: the patch policy, by reinforcement
    policy_rate: float = 3e-4  # Adam
    # Of stage 2: gain over a random patch, over the frame before, or confidence.
    reward: Literal["random", "prev", "conf"] = "random"
    skip_price: float = 0.05  # AdaFocus+: what one look must add to the confidence to be worth it
    tune_epochs: int = 10  # stage 3: the classifier on the patches that the policy picks
    tune_rate: float = 5e-3  # of stage 3
    # Of stages 2 and 3: draws of each video whose features are kept on disk, at every position of the grid,
    # so that an epoch decodes nothing and runs no frozen network. It pays from half as many epochs as there
    # are positions. 0: clips are read anew in every epoch, as in the paper.
    kept_views: int = 0
    turns: int = 1  # of stages 2 and 3: with the tuned classifier, looking on pays, not just once
    glance_dropout: float = 0.0  # stage 1: share of glance features dropped, so that patches are read
    skip_share: float = 0.15  # AdaFocus+, stage 1: share of patches left out, so that zeros are understood
    exit_frames: float | None = None  # stage exits: mean frames to read before the answer. None: read all


@dataclass(frozen=True)
class AdaFocusV2Plan:
    """AdaFocusV2 learns everything in one stage, at the rate and for the epochs of the loop."""

    exit_frames: float | None = None  # stage exits: mean frames to read before the answer. None: read all


@dataclass(frozen=True)
class AdaFocusV2TSMPlan:
    """AdaFocusV2 on TSM learns everything in one stage, at the rate and for the epochs of the loop."""

    policy_factor: float = 0.01  # the policy learns so many times as fast as the local network


@dataclass(frozen=True)
class AdaFocusTSMPlan:
    """Epochs and rates of the stages of AdaFocus-TSM; 0 epochs leave one out."""

    glance_epochs: int = 50  # stage 0: the glance alone
    glance_rate: float = 0.01  # of stage 0, for a batch of `reference_batch` clips, as all rates here
    local_epochs: int = 50  # stage 0: the local network alone, on whole frames
    local_rate: float = 0.01  # of the same
    patch_epochs: int = 10  # stage 1: local network and its classifier on random patches
    patch_rate: float = 1e-5  # of the local network
    patch_classifier: float = 1000.0  # the classifier learns so many times as fast, which is for SGD
    policy_epochs: int = 50  # stage 2: the patch policy, by reinforcement
    policy_rate: float = 3e-4  # Adam
    reward: Literal["random", "prev", "conf"] = (
        "random"  # of stage 2: gain over a random patch, or confidence
    )
    tune_epochs: int = 10  # stage 3: the classifier on the patches that the policy picks
    tune_rate: float = 1e-3  # of stage 3, which is the paper's 5e-4 at 32 clips


def stages_v1(model: AdaFocus, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """Stages 0 to 3, with a second policy for AdaFocus+."""
    plan: AdaFocusPlan = job.plan
    if model.config.policy == "attention":
        raise UsageError(
            job.model, "policy=attention does not learn by reinforcement", "use --recipe attention"
        )
    if model.config.classifier == "mean" and job.train.loss == "bce":
        cause = "answers with probabilities that sum to 1, which do not fit --loss bce"
        raise UsageError("classifier=mean", cause, "use --loss soft_cross_entropy, or classifier=gru")
    loss = loss_function(job.train.loss, job.train.label_smoothing, weights)
    skip = plan.skip_share if model.skip_policy is not None else 0.0
    random = objectives.PatchTraining(loss, "random", plan.glance_dropout, skip)
    learning = (("local", 1.0), ("classifier", plan.patch_classifier))
    glance = objectives.Warmup(loss, "glance", plan.warmup)
    local = objectives.Warmup(loss, "local", plan.warmup)
    stages = [
        Stage("stage0", plan.glance_epochs, plan.glance_rate, GLANCE, glance),
        Stage("stage0_local", plan.local_epochs, plan.local_rate, LOCAL, local),
        Stage("stage1", plan.patch_epochs, plan.patch_rate, learning, random, judged=True, needs="stage0"),
    ]
    tuning = (plan.tune_epochs, plan.tune_rate, (("classifier", 1.0),))
    last = objectives.PatchTraining(loss, "policy")
    keep = None
    if plan.kept_views:
        keep = Keep("table", objectives.keep_table, ("glance", "local"), plan.kept_views)
    if model.policy is None:
        return [*stages, Stage("stage3", *tuning, last, judged=True, needs="stage1")]
    for turn in range(1, plan.turns + 1):
        suffix = "" if turn == 1 else f"_{turn}"
        stages += [_learning(plan, f"stage2{suffix}", stages[-1].name, keep=keep)]
        if model.skip_policy is not None and turn == plan.turns:
            stages += [_skipping(plan, stages[-1].name, keep)]
        between = objectives.PatchTraining(loss, "policy", skip=skip, obey=False)
        objective = last if turn == plan.turns else between
        needs = stages[-1].name
        stages += [Stage(f"stage3{suffix}", *tuning, objective, keep=keep, judged=True, needs=needs)]
    return stages


def _learning(
    plan: AdaFocusPlan | AdaFocusTSMPlan, name: str, needs: str, least: int = 1, keep: Keep | None = None
) -> Stage:
    rollout, objective = objectives.PlaceRollout(plan.reward, PPO), objectives.PolicyObjective(PPO)
    size = plan.policy_epochs, plan.policy_rate, (("policy", 1.0),)
    chosen = {"reward": plan.reward}
    return Stage(name, *size, objective, rollout, least, keep=keep, needs=needs, chosen=chosen)


def _skipping(plan: AdaFocusPlan, needs: str, keep: Keep | None) -> Stage:
    rollout, objective = objectives.LookRollout(plan.skip_price, PPO), objectives.PolicyObjective(PPO, "skip")
    size = plan.policy_epochs, plan.policy_rate, (("skip_policy", 1.0),)
    chosen = {"price": plan.skip_price}
    return Stage("stage2_skip", *size, objective, rollout, keep=keep, needs=needs, chosen=chosen)


def stages_v2(model: AdaFocusV2, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """The one stage of AdaFocusV2."""
    loss = loss_function(job.train.loss, job.train.label_smoothing, weights)
    parts = [("glance", 0.5), ("glance_head", 0.5), ("local", 1.0), ("local_head", 1.0)]
    together, objective = (*parts, ("classifier", 5.0), ("policy", 0.1)), objectives.EndToEndObjective(loss)
    return [Stage("together", job.train.epochs, job.train.rate, together, objective, judged=True)]


def stages_v2_tsm(model: AdaFocusV2TSM, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """The one stage of AdaFocusV2 on TSM."""
    plan: AdaFocusV2TSMPlan = job.plan
    loss = loss_function(job.train.loss, job.train.label_smoothing, weights)
    parts = [(part, 0.5) for part in ("glance", "glance_head", "glance_aux")]
    parts += [(part, 1.0) for part in ("local", "local_head", "local_aux")]
    together, objective = (*parts, ("policy", plan.policy_factor)), objectives.EndToEndObjective(loss)
    return [Stage("together", job.train.epochs, job.train.rate, together, objective, judged=True)]


def stages_tsm(model: AdaFocusTSM, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """The intended recipe; the released schedule left nearly all of it at a rate of zero."""
    plan: AdaFocusTSMPlan = job.plan
    loss, dropout = loss_function(job.train.loss, job.train.label_smoothing, weights), model.config.dropout
    glance = objectives.Warmup(loss, "glance", "clip", dropout)
    local = objectives.Warmup(loss, "local", "clip", dropout)
    random = objectives.PatchTraining(loss, "random", local_dropout=dropout)
    learning = (("local", 1.0), ("local_head", plan.patch_classifier))
    stages = [
        Stage("stage0", plan.glance_epochs, plan.glance_rate, GLANCE, glance),
        Stage("stage0_local", plan.local_epochs, plan.local_rate, LOCAL, local),
        Stage("stage1", plan.patch_epochs, plan.patch_rate, learning, random, judged=True, needs="stage0"),
    ]
    if model.policy is not None:
        # Two clips at least: for its batch norms, and its returns, which are compared with each other.
        stages += [_learning(plan, "stage2", "stage1", least=2)]
    tuning = (plan.tune_epochs, plan.tune_rate, (("local_head", 1.0),))
    objective, before = objectives.PatchTraining(loss, "policy"), stages[-1].name
    return [*stages, Stage("stage3", *tuning, objective, judged=True, needs=before)]


OWN_RATES = ("patch-epochs", "tune-rate")
ADAFOCUS = Recipe("adafocus", "the paper's, on ActivityNet", stages_v1, AdaFocusPlan(), own_rates=OWN_RATES)
ADAFOCUS_V2 = Recipe("adafocus_v2", "the paper's, in one stage", stages_v2, AdaFocusV2Plan())
ADAFOCUS_TSM = Recipe(
    "adafocus_tsm", "the paper's, on Something-Something", stages_tsm, AdaFocusTSMPlan(), own_rates=OWN_RATES
)
ADAFOCUS_V2_TSM = Recipe(
    "adafocus_v2_tsm",
    "the release's, on Something-Something and Jester",
    stages_v2_tsm,
    AdaFocusV2TSMPlan(),
    TrainConfig(
        rate=0.01,
        batch=32,
        reference_batch=32,
        weight_decay=5e-4,
        schedule_every="epoch",
        clip_norm=20,
    ),
    Augment(flip=False),
)
SMALL_TRAIN = TrainConfig(
    optimizer="adamw",
    reference_batch=None,
    weight_decay=0.02,
    groups="no_norm_bias_decay",
    warmup_epochs=0.5,
)
SMALL_ADAFOCUS = replace(
    ADAFOCUS,
    about="for some hundred videos and a CPU, from trained networks: AdamW, every part at a rate of its own",
    plan=AdaFocusPlan(
        glance_epochs=3,
        glance_rate=2e-3,
        local_epochs=0,
        local_rate=2e-3,
        warmup="frames",
        patch_epochs=3,
        patch_rate=2e-3,
        patch_classifier=1.0,
        glance_dropout=0.5,
        policy_epochs=3,
        policy_rate=1e-3,
        tune_epochs=3,
        tune_rate=1e-3,
    ),
    train=SMALL_TRAIN,
    augment=Augment(crop="random"),
)
