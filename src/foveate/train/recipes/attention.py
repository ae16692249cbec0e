"""The recipe for hundreds of videos and a CPU: AdaFocus with the attention policy, from ImageNet networks.

attend  where to look, by labels alone, on kept features of frozen networks: the guide finds what tells the
        classes apart in the local network's maps of whole frames, the policy learns to find it by the glance
answer  the classifier, on kept features of the patches that the policy picks
tune    the upper stages of the local network and the classifier, on clips

Nothing is learnt from scratch that ImageNet knows already; a policy learnt by reinforcement needs ten times
the videos. The recipe is this project's own, not a paper's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.errors import UsageError
from foveate.layers.fold import fold_time
from foveate.layers.shrink import shrink
from foveate.models.adafocus.attention import AttentionPolicy, CellAttention
from foveate.models.adafocus.v1 import AdaFocus
from foveate.train.job import TrainJob
from foveate.train.kept import Keep, KeptBatch
from foveate.train.objective import LossFunction, loss_function
from foveate.train.recipes.adafocus import SMALL_TRAIN
from foveate.train.recipes.focus_objectives import PatchTraining, loss_of_steps
from foveate.train.recipes.recipe import Recipe, Stage
from foveate.video.transform import Augment

SHRINK = 0.3  # of the mean deviation, added to each: small components are not blown up to noise


@dataclass(frozen=True)
class AttentionPlan:
    """Epochs and rates of the stages; 0 epochs leave one out."""

    views: int = 2  # clips of each video whose features are kept, each another draw of the augmentation
    guide_size: int = 256  # pixels, side of the whole frames that the guide sees
    attend_epochs: int = 30  # stage attend: guide and policy
    attend_rate: float = 2e-3  # AdamW, as all rates here
    answer_epochs: int = 40  # stage answer: the classifier
    answer_rate: float = 1e-3
    tune_epochs: int = 2  # stage tune: upper stages of the local network
    tune_rate: float = 3e-4
    tune_blocks: int = 6  # blocks of the local network that learn, the last ones
    glance_dropout: float = 0.5  # share of glance features dropped, so that patches are read
    local_dropout: float = 0.3  # share of patch features dropped


def stages(model: AdaFocus, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """The three stages by the job's plan; UsageError for a model without the attention policy."""
    plan: AttentionPlan = job.plan
    if model.config.policy != "attention":
        raise UsageError(job.model, "has no policy that attends", "set policy=attention, or another --recipe")
    if plan.guide_size < 1:
        raise UsageError("--guide-size", f"is {plan.guide_size}", "give the side of a frame in pixels")
    loss = loss_function(job.train.loss, job.train.label_smoothing, weights)
    projections = ("policy.attention.project", "policy.guide.project")
    looking = ("policy.attention.score", "policy.guide.score", "policy.guide.head")
    maps = Keep(
        "maps",
        partial(keep_maps, guide_size=plan.guide_size),
        reads=("glance", "local"),
        views=plan.views,
        begin=partial(whiten, guide_size=plan.guide_size),
        sets=projections,
    )
    kept = {"views": plan.views, "guide_size": plan.guide_size}
    features = Keep("patches", keep_features, reads=("glance", "local", "policy"), views=plan.views)
    answers = AnswerTraining(loss, plan.glance_dropout, plan.local_dropout)
    upper = upper_blocks(model.get_submodule("local"), plan.tune_blocks)
    clips = PatchTraining(loss, "policy", plan.glance_dropout, local_dropout=plan.local_dropout)
    return [
        Stage(
            "attend",
            plan.attend_epochs,
            plan.attend_rate,
            (*((name, 0.0) for name in projections), *((name, 1.0) for name in looking)),
            AttentionTraining(loss),
            keep=maps,
            chosen=kept,
        ),
        Stage(
            "answer",
            plan.answer_epochs,
            plan.answer_rate,
            (("classifier", 1.0), ("glance_head", 1.0), ("local_head", 1.0)),
            answers,
            keep=features,
            chosen=kept,
            needs="attend",
            judged=True,
        ),
        Stage(
            "tune",
            plan.tune_epochs,
            plan.tune_rate,
            (*((f"local.{name}", 1.0) for name in upper), ("classifier", 1.0)),
            clips,
            needs="answer",
            judged=True,
        ),
    ]


def upper_blocks(network: nn.Module, count: int) -> list[str]:
    """Names of the last blocks of a network with parameters; those in a list or a sequence count each."""
    names = []
    for name, child in network.named_children():
        inside = isinstance(child, nn.ModuleList | nn.Sequential)
        names += [f"{name}.{number}" for number, _ in child.named_children()] if inside else [name]
    learning = [name for name in names if any(True for _ in network.get_submodule(name).parameters())]
    return learning[len(learning) - count :]


def maps_of(model: AdaFocus, clip: Tensor, guide_size: int) -> tuple[Tensor, Tensor]:
    """Maps of the glance, and of the local network on whole frames, each (B, T, C, h, w)."""
    frames = shrink(fold_time(clip), guide_size)
    whole = model.local(frames, 1).unflatten(0, (clip.shape[0], clip.shape[2]))
    return model.glance_at(clip).maps, whole


def keep_maps(model: AdaFocus, clip: Tensor, guide_size: int) -> Mapping[str, Tensor]:
    """The projected maps that policy and guide attend to."""
    glance, whole = maps_of(model, clip, guide_size)
    policy = model.policy
    return {"glance": policy.attention.projected(glance), "whole": policy.guide.projected(whole)}


def keep_features(model: AdaFocus, clip: Tensor) -> Mapping[str, Tensor]:
    """What the classifier reads: the glance, and the patch where the policy puts it."""
    seen = model.see(clip)
    glance = seen.glance()
    return {"glance": glance.features, "local": seen.local(model.choose_place(glance.maps)[0])}


def whiten(model: AdaFocus, clips: Iterable[Tensor], guide_size: int) -> None:
    """Set both projections to the principal components of the maps of some clips, at nearly equal scale."""
    both = [maps_of(model, clip, guide_size) for clip in clips]
    for attention, maps in zip(
        (model.policy.attention, model.policy.guide), zip(*both, strict=True), strict=True
    ):
        set_whitening(attention, torch.cat([own.flatten(0, 1).transpose(0, 1).flatten(1).T for own in maps]))


def set_whitening(attention: CellAttention, cells: Tensor) -> None:
    """cells: (N, C), features of cells. Components that N cells do not show are left at zero."""
    project: nn.Conv2d = attention.project
    chosen = cells[torch.linspace(0, len(cells) - 1, min(len(cells), 20_000)).long()].double()
    mean = chosen.mean(0)
    variances, directions = torch.linalg.eigh((chosen - mean).T @ (chosen - mean) / max(len(chosen) - 1, 1))
    count = min(project.out_channels, len(variances))
    deviations = variances.flip(0)[:count].clamp(min=0).sqrt()
    weight = directions.flip(1)[:, :count].T / (deviations + SHRINK * deviations.mean() + 1e-9).unsqueeze(1)
    with torch.no_grad():
        project.weight.zero_()
        project.weight[:count] = weight[..., None, None].to(project.weight)
        assert project.bias is not None
        project.bias.copy_(-project.weight[..., 0, 0] @ mean.to(project.weight))


@dataclass(frozen=True)
class AttentionTraining:
    """Stage attend: the guide classifies what it attends to, the policy's attention follows the guide's."""

    loss: LossFunction

    def __call__(self, model: AdaFocus, batch: KeptBatch) -> dict[str, Tensor]:
        policy: AttentionPolicy = model.policy
        logits, guided = policy.guide(batch.values["whole"])
        shares = policy.attention.shares(batch.values["glance"])
        target = F.interpolate(guided.detach(), shares.shape[2:], mode="bilinear", antialias=True).flatten(2)
        target = target / target.sum(-1, keepdim=True)
        apart = F.kl_div((shares.flatten(2) + 1e-8).log(), target, reduction="none").sum(-1).mean()
        right = self.loss(logits, batch.labels)
        return {"loss": right + apart, "guide_loss": right.detach(), "apart": apart.detach()}


@dataclass(frozen=True)
class AnswerTraining:
    """Stage answer: the loss of the answer after every frame, of classifier and heads, on kept features."""

    loss: LossFunction
    glance_dropout: float
    local_dropout: float

    def __call__(self, model: AdaFocus, batch: KeptBatch) -> dict[str, Tensor]:
        glance = F.dropout(batch.values["glance"], self.glance_dropout)
        local = F.dropout(batch.values["local"], self.local_dropout)
        step_logits, _ = model.classify(glance, local)
        answers = (step_logits, model.glance_head(glance), model.local_head(local))
        losses = [loss_of_steps(self.loss, answer, batch.labels) for answer in answers]
        return {"loss": torch.stack(losses).sum(), "answer_loss": losses[0].detach()}


ATTENTION = Recipe(
    "attention",
    "for hundreds of videos and a CPU, from ImageNet networks",
    stages,
    AttentionPlan(),
    train=replace(
        SMALL_TRAIN,
        batch=32,
        weight_decay=0.05,
        warmup_epochs=1.0,
        label_smoothing=0.1,
        eval_every=100,  # the last epoch of a stage alone: a validation costs more than an epoch
    ),
    augment=Augment(crop="random"),
    own_rates=("attend-epochs", "answer-rate"),
)
