"""The recipe of AR-Net: its stages as objectives of the common loop (Meng et al., ECCV 2020, section 3.3).

branches  each network at its own size, and the glance's own answer, on every frame
joint     networks and policy together: decisions drawn by Gumbel-Softmax, colder with every epoch, and a
          price on what they cost
fixed     the networks on the frames that the finished policy gives them

Every network answers to every frame in the first two, because the gradient of a decision needs the answers
that were not chosen; in the third only what was chosen is computed, as at inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from foveate.layers.macs import macs_from_shapes
from foveate.models.arnet import ARNet, fuse
from foveate.train.job import TrainJob
from foveate.train.objective import Classification, ClipBatch, Frames, LossFunction, clip_of, loss_function
from foveate.train.recipes.recipe import Recipe, Stage

JOINT = ("accuracy_weight", "cost_weight", "balance_weight", "temperature", "temperature_decay")


@dataclass(frozen=True)
class ARNetPlan:
    """Epochs, rates and prices of the stages of AR-Net; 0 epochs leave one out."""

    branch_epochs: int = 15  # stage branches: each network alone at its size
    branch_rate: float = 1e-3  # for a batch of `reference_batch` clips, as all rates here; the paper: 0.02
    joint_epochs: int = 100  # stage joint: networks and policy together
    joint_rate: float = 1e-3
    fixed_epochs: int = 0  # stage fixed: the networks behind a finished policy; the paper: 50
    fixed_rate: float = 5e-4
    accuracy_weight: float = 0.95  # of the loss of the answer
    cost_weight: float = 0.2  # of the mean cost of a frame, as a share of the dearest
    balance_weight: float = 0.15  # of the unevenness with which the actions are used
    temperature: float = 5.0  # of the drawn decisions in the first epoch
    temperature_decay: float = 0.045  # it falls by so much of itself from one epoch to the next


def stages(model: ARNet, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """The three stages by the job's plan."""
    loss, plan = loss_function(job.train.loss, job.train.label_smoothing, weights), job.plan
    nets = (("nets", 1.0), ("heads", 1.0), ("policy_head", 1.0))
    looking = (*nets, ("glance", 1.0), ("policy.rnn", 1.0))
    joint = JointTraining(loss, relative_costs(model), plan)
    fixed = FixedTraining(Classification(job.train.loss, job.train.label_smoothing, tuple(weights)))
    return [
        Stage("branches", plan.branch_epochs, plan.branch_rate, looking, BranchWarmup(loss)),
        Stage(
            "joint",
            plan.joint_epochs,
            plan.joint_rate,
            (*looking, ("policy.actions", 1.0)),
            joint,
            feed=partial(Annealing, plan=plan),
            judged=True,
            needs="branches",
            chosen={name: getattr(plan, name) for name in JOINT},
        ),
        Stage("fixed", plan.fixed_epochs, plan.fixed_rate, nets, fixed, judged=True, needs="joint"),
    ]


@dataclass(frozen=True)
class WarmBatch:
    """A batch of videos and the temperature at which decisions on it are drawn."""

    frames: Frames
    labels: Tensor
    bad: Sequence[Any]
    temperature: float


@dataclass(frozen=True)
class Annealing:
    """Batches at a temperature that falls with the epochs, a function of the epoch: so a run can resume."""

    batches: Callable[[int, int], Iterable[Any]]
    plan: ARNetPlan

    def __call__(self, epoch: int, start_batch: int) -> Iterator[WarmBatch]:
        heat = self.plan.temperature * math.exp(-self.plan.temperature_decay * epoch)  # tau
        for batch in self.batches(epoch, start_batch):
            yield WarmBatch(batch.frames, batch.labels, getattr(batch, "bad", ()), heat)


@dataclass(frozen=True)
class BranchWarmup:
    """Stage branches: the mean of each network's logits over all frames, each with a loss of its own."""

    loss: LossFunction

    def __call__(self, model: ARNet, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        logits, _ = model.branches(model.resized(clip), clip.shape[0], clip.shape[2])
        losses = [self.loss(said.mean(1), labels) for said in logits.unbind(1)]
        return {"loss": torch.stack(losses).sum()}


@dataclass(frozen=True)
class JointTraining:
    """Stage joint: the loss of the fused answer, the cost of the decisions, and evenness of their use.

    costs: of each action, as a share of the dearest; the policy's own answer and skips cost nothing.
    """

    loss: LossFunction
    costs: tuple[float, ...]
    plan: ARNetPlan

    def __call__(self, model: ARNet, batch: WarmBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        frames_at = model.resized(clip)
        logits, actions = model.branches(frames_at, clip.shape[0], clip.shape[2], batch.temperature)
        right = self.loss(fuse(actions, logits), labels)
        shares = actions.mean((0, 1))  # of each action in all decisions
        cost = (shares * shares.new_tensor(self.costs)).sum()
        uneven = torch.linalg.vector_norm(shares - shares.mean())
        weight = self.plan
        total = weight.accuracy_weight * right + weight.cost_weight * cost + weight.balance_weight * uneven
        return {"loss": total, "accuracy_loss": right.detach(), "cost": cost.detach()}


@dataclass(frozen=True)
class FixedTraining:
    """Stage fixed: the loss of the answer under decisions that are made. answer: the loss of a classifier."""

    answer: Classification

    def __call__(self, model: ARNet, batch: ClipBatch) -> dict[str, Tensor]:
        losses = self.answer(model, batch)
        if not losses["loss"].requires_grad:  # every frame of the batch is skipped: nothing to learn from
            learning = next(p for p in model.parameters() if p.requires_grad)
            losses["loss"] = losses["loss"] + 0 * learning.sum()
        return losses


def relative_costs(model: ARNet) -> tuple[float, ...]:
    """Multiply-adds of each action on one frame, as shares of the dearest."""
    macs = []
    for net, side in zip(model.nets, model.config.sizes, strict=True):
        macs.append(macs_from_shapes(net, "forward", [torch.empty(1, 3, side, side)]))
    return (*(m / max(macs) for m in macs), 0.0, *(0.0 for _ in model.config.skips))


ARNET = Recipe(
    "arnet",
    "networks at their sizes, then with the policy, then behind it",
    stages,
    ARNetPlan(),
    own_rates=("branch-epochs", "joint-rate"),
)
