"""The recipe of Uni-AdaFocus for any budget: the one stage of Uni-AdaFocus, for several ways to look at once.

The sandwich rule with in-place distillation (Yu and Huang, "Universally Slimmable Networks", ICCV 2019). In
every step the widest network learns with the largest patch as in recipes/uni.py. Two narrower ways to look at
the same frames and boxes learn beside it: the narrowest network with a patch of random side, and a pair of
width and side drawn from all others, the full width with a smaller patch among them. They learn their answers
from the labels and from those of the widest (detached, without a temperature), `soft` of it from the latter;
in the paper from the latter alone, which is `soft` = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foveate.models.adafocus.uni_any import UniAny
from foveate.models.dials import Look
from foveate.train.config import Loss
from foveate.train.job import TrainJob
from foveate.train.objective import ClipBatch, LossFunction, clip_of, loss_function
from foveate.train.recipes import uni
from foveate.train.recipes.focus_objectives import loss_of_steps
from foveate.train.recipes.recipe import Stage
from foveate.train.recipes.uni import SMALL_UNI, UNI, Looks, UniPlan, UniStep, draw, find, look_twice


@dataclass(frozen=True)
class UniAnyPlan(UniPlan):
    """What Uni-AdaFocus for any budget is trained by, beside what `UniPlan` has."""

    soft: float = 0.5  # share that the widest's answers have in what others learn from; the labels: the rest

    def __post_init__(self) -> None:
        if not 0 <= self.soft <= 1:
            raise ValueError(f"soft is {self.soft}; it is a share, within 0 and 1")


def draw_looks(model: UniAny) -> list[Look]:
    """The narrowest width with a side of random size, and any other pair; none of a model with one pair."""
    others = model.config.looks[:-1]
    narrowest = [look for look in others if look[0] == model.config.widths[0]]
    return [pairs[int(torch.randint(len(pairs), ()))] for pairs in (narrowest, others) if pairs]


@dataclass(frozen=True)
class UniAnyObjective:
    """The sandwich: the loss of Uni-AdaFocus at full width, and that of two narrower ways to look."""

    loss: LossFunction
    soft_loss: LossFunction  # of logits (N, classes) against probabilities
    plan: UniAnyPlan

    def __call__(self, model: UniAny, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        widest = find(model, clip, draw(model, len(clip)), self.plan.expected)
        terms = widest.losses(self.loss, labels)
        shown = {name: terms[name].detach() for name in ("temporal", "spatial", "size")}
        loss = uni.total(terms, self.plan.size_weight)
        for look in draw_looks(model):
            with model.looking(look):
                looks = look_twice(model, clip, widest.seen, widest.choice, widest.random_boxes)
            loss = loss + self.of_narrower(model, looks, widest, labels)
        return {"loss": loss, **shown}

    def of_narrower(self, model: UniAny, looks: Looks, widest: UniStep, labels: Tensor) -> Tensor:
        """The loss of the answers after the close looks, as half of those in each kind of boxes."""
        total = torch.zeros((), device=labels.device)
        for name, answers in looks._asdict().items():
            after = answers[:, -model.config.local_frames :]  # those of the glances have learnt already
            taught = getattr(widest, name)[:, -model.config.local_frames :].detach()
            hard = loss_of_steps(self.loss, after, labels)
            soft = self.soft_loss(
                after.flatten(0, 1).float(), model.probabilities(taught.float()).flatten(0, 1)
            )
            total = total + ((1 - self.plan.soft) * hard + self.plan.soft * soft) / 2
        return total


def stages(model: UniAny, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """The one stage of Uni-AdaFocus with this objective."""
    loss: Loss = job.train.loss
    hard = loss_function(loss, job.train.label_smoothing, weights)
    soft = loss_function("bce" if loss == "bce" else "cross_entropy")
    (stage,) = uni.stages(model, job, weights)
    return [replace(stage, objective=UniAnyObjective(hard, soft, job.plan))]


UNI_ANY = replace(
    UNI,
    name="uni_adafocus_any",
    about="the release's for ActivityNet, for several widths and patches at once",
    stages=stages,
    plan=UniAnyPlan(),
)
SMALL_UNI_ANY = replace(
    SMALL_UNI,
    name="uni_adafocus_any",
    stages=stages,
    plan=UniAnyPlan(glance_factor=1.0, classifier_factor=1.0, policy_factor=1.0),
)
