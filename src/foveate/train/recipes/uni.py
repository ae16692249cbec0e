"""The recipe of Uni-AdaFocus: everything learns together, in one stage.

Wang et al., "Uni-AdaFocus", TPAMI 2024 (arXiv 2412.11228). It starts from ImageNet weights, X3D from those of
Kinetics. Of every clip f_L sees the same frames twice, in the policy's boxes and in random ones. The loss is,
each term a cross-entropy but the last:

    answers: 1/2 (in the policy's boxes + in random boxes)
    networks, each by its auxiliary head: glance + 1/2 (local in the policy's boxes + in random ones)
    temporal policy: the answer expected of frames drawn by weight (layers/frame_choice.py)
    spatial policy: the answer from what the boxes cut out of the glance's maps (`UniModel.box_logits`)
    size: how much smaller than the frame the boxes are, (side - 1)^2, times `size_weight`

The defaults are the release's numbers, for ActivityNet, Something-Something V2 and Kinetics-400.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from foveate.layers.frame_choice import draw_left_out, expected_logits, thresholds
from foveate.models.adafocus.seen import Glance
from foveate.models.adafocus.uni import Choice, UniModel
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.objective import ClipBatch, LossFunction, clip_of, loss_function
from foveate.train.recipes.adafocus import SMALL_TRAIN
from foveate.train.recipes.focus_objectives import loss_of_steps
from foveate.train.recipes.recipe import Recipe, Stage
from foveate.video.transform import Augment

Expected = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class UniPlan:
    """What Uni-AdaFocus is trained by, beside the rate and the epochs of the loop."""

    size_weight: float = 1.0  # of the term that wants boxes as large as the frame
    glance_factor: float = 0.5  # the glance and its heads learn so many times as fast as the local network
    classifier_factor: float = 20.0  # the same of the classifier; Uni-AdaFocus for long videos alone has one
    policy_factor: float = 0.2  # the same of both policies
    # what the temporal policy's loss averages over the frames drawn: logits as in the paper, or
    # probabilities, where a few frames that are sure would make up for any others
    expected: Expected = "logits"
    exit_frames: float | None = None  # stage exits: mean looks before the answer, from 0. None: all


@dataclass(frozen=True)
class UniDraws:
    """The random numbers of one training step, all uniform in [0, 1) but the last."""

    glances: Tensor  # (B, T), where in its part of the video each glance lies
    shares: Tensor  # (B, K), where in its part of the weights each frame lies
    corners: Tensor  # (B, K, 2), row and column of the random boxes
    left_out: Sequence[Tensor] = ()  # frames left out in the expected answer; none: drawn by the weights


@dataclass(frozen=True)
class UniStep:
    """What a training step finds in B clips: logits are (B, n, classes) where not said otherwise."""

    seen: Glance
    choice: Choice
    random_boxes: Tensor  # (B, K, 4)
    policy: Tensor  # answers in the policy's boxes
    random: Tensor  # answers in random boxes
    glance: Tensor  # by the auxiliary head of f_G
    local_policy: Tensor  # by that of f_L, in the policy's boxes
    local_random: Tensor  # the same in random boxes
    expected: Tensor  # (B, classes), of frames drawn by weight
    spatial: Tensor  # (B, classes), from what the boxes cut out of the glance's maps

    def losses(self, loss: LossFunction, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, each unweighted."""
        steps = ("policy", "random", "glance", "local_policy", "local_random")
        of_clips = {"temporal": self.expected, "spatial": self.spatial}
        return {
            **{name: loss_of_steps(loss, getattr(self, name), labels) for name in steps},
            **{name: loss(logits.float(), labels) for name, logits in of_clips.items()},
            "size": (self.choice.glance_boxes[..., 2:] - 1).square().mean(),
        }


class Looks(NamedTuple):
    """What f_L adds in the policy's boxes and in random ones, logits (B, n, classes)."""

    policy: Tensor  # answers
    random: Tensor
    local_policy: Tensor  # by the auxiliary head of f_L
    local_random: Tensor


def find(model: UniModel, clip: Tensor, draws: UniDraws, expected: Expected = "logits") -> UniStep:
    """Both looks at a clip (B, 3, N, S, S), and what the policies learn from. expected: see `UniPlan`."""
    glance = model.glance_at(model.frames_at(clip, model.glanced(clip, draws.glances)))
    choice = model.choose(glance, clip.shape[2], thresholds(model.config.local_frames, draws.shares))
    anywhere = model.random_boxes(draws.corners)
    looks = look_twice(model, clip, glance, choice, anywhere)
    each = model.glance_aux(glance.features)  # (B, T, classes)
    left_out = draws.left_out or draw_left_out(choice.weights, each.shape[1] // 3)
    told = expected_answer(
        model, choice.weights, each.detach() if model.detached else each, left_out, expected
    )
    return UniStep(
        glance,
        choice,
        anywhere,
        looks.policy,
        looks.random,
        model.auxiliary(each),
        looks.local_policy,
        looks.local_random,
        told,
        model.box_logits(glance, choice.glance_boxes),
    )


def expected_answer(
    model: UniModel, weights: Tensor, each: Tensor, left_out: Sequence[Tensor], expected: Expected
) -> Tensor:
    """Logits (B, classes) of the answer expected of frames drawn by weight (B, T). each: (B, T, classes).

    The mean of logits is the paper's. It is right already if the frames that say something outvote the
    others, and then no longer asks for weight on them; the mean of probabilities always does.
    """
    if expected == "logits":
        return expected_logits(weights, each, left_out)
    shares = expected_logits(weights, model.probabilities(each.float()), left_out).clamp(1e-6, 1 - 1e-6)
    return shares.logit() if model.independent else shares.log()


def look_twice(model: UniModel, clip: Tensor, glance: Glance, choice: Choice, anywhere: Tensor) -> Looks:
    """Both looks at the chosen frames of a clip, in their boxes and in others, `anywhere` (B, K, 4)."""
    frames = model.frames_at(clip, choice.frames)
    boxes = torch.cat([choice.boxes.detach(), anywhere])
    local, other = model.look_at(torch.cat([frames, frames]), boxes).chunk(2)  # one batch for its norms
    # the policy's come last: they weigh more in the classifier's running statistics
    random, policy = model.answers(glance, other, local)
    aux, aux_other = (model.auxiliary(model.local_aux(found)) for found in (local, other))
    return Looks(policy, random, aux, aux_other)


def total(terms: dict[str, Tensor], size_weight: float) -> Tensor:
    """The loss, from its terms."""
    answers = (terms["policy"] + terms["random"]) / 2
    networks = terms["glance"] + (terms["local_policy"] + terms["local_random"]) / 2
    return answers + networks + terms["temporal"] + terms["spatial"] + size_weight * terms["size"]


@dataclass(frozen=True)
class UniObjective:
    """The single stage of Uni-AdaFocus."""

    loss: LossFunction
    size_weight: float = 1.0
    expected: Expected = "logits"

    def __call__(self, model: UniModel, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        terms = find(model, clip, draw(model, len(clip)), self.expected).losses(self.loss, labels)
        shown = {name: terms[name].detach() for name in ("temporal", "spatial", "size")}
        return {"loss": total(terms, self.size_weight), **shown}


def draw(model: UniModel, batch: int) -> UniDraws:
    """The random numbers of a step. Where a video has one box, it has one random one."""
    config, device = model.config, next(model.parameters()).device
    boxes = config.local_frames if model.span == 1 else 1
    corners = torch.rand(batch, boxes, 2).expand(batch, config.local_frames, 2)
    glances, shares = torch.rand(batch, config.glance_frames), torch.rand(batch, config.local_frames)
    return UniDraws(glances.to(device), shares.to(device), corners.to(device))


def stages(model: UniModel, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """The one stage, in which every part learns at a rate of its own."""
    plan: UniPlan = job.plan
    loss = loss_function(job.train.loss, job.train.label_smoothing, weights)
    factors = {
        "glance": plan.glance_factor,
        "local": 1.0,
        "box_aux": plan.glance_factor,
        "glance_aux": plan.glance_factor,
        "local_aux": 1.0,
        "glance_head": plan.glance_factor,
        "local_head": 1.0,
        "glance_classifier": plan.classifier_factor,
        "local_classifier": plan.classifier_factor,
        "temporal_policy": plan.policy_factor,
        "spatial_policy": plan.policy_factor,
    }
    parts = tuple((part, factors[part]) for part in factors if hasattr(model, part))
    objective = UniObjective(loss, plan.size_weight, plan.expected)
    return [Stage("together", job.train.epochs, job.train.rate, parts, objective, judged=True)]


def _sgd(rate: float, batch: int, decay: float, clip_norm: float | None = None) -> TrainConfig:
    return TrainConfig(
        rate=rate,
        batch=batch,
        reference_batch=batch,
        weight_decay=decay,
        schedule_every="epoch",
        clip_norm=clip_norm,
    )


NO_FLIP = Augment(flip=False)
UNI = Recipe("uni_adafocus", "the release's, on ActivityNet", stages, UniPlan(), _sgd(0.002, 32, 2e-4))
UNI_FCVID = replace(UNI, about="the release's, on FCVID", train=_sgd(0.004, 64, 1e-4))
UNI_MINI_KINETICS = replace(
    UNI,
    about="the release's, on Mini-Kinetics; its auxiliary heads drop 0.1: --settings aux_dropout=0.1",
    plan=UniPlan(size_weight=0.75),
    train=_sgd(0.003, 48, 1e-4),
)
UNI_TSM = Recipe(
    "uni_adafocus_tsm",
    "the release's, on Something-Something V2",
    stages,
    UniPlan(size_weight=0.5),
    _sgd(0.02, 64, 5e-4, 20),
    NO_FLIP,
)
UNI_TSM_V1 = replace(
    UNI_TSM, about="the release's, on Something-Something V1", train=_sgd(0.02, 64, 1e-3, 20)
)
UNI_JESTER = replace(UNI_TSM_V1, about="the release's, on Jester", plan=UniPlan(size_weight=0.25))
UNI_X3D = Recipe(
    "uni_adafocus_x3d",
    "the release's, on Kinetics-400",
    stages,
    UniPlan(size_weight=0.5, policy_factor=0.4),
    _sgd(0.005, 64, 5e-5, 20),
)
SMALL_UNI = replace(
    UNI,
    about="for some hundred videos and a CPU: AdamW, every part at the same rate",
    plan=UniPlan(glance_factor=1.0, classifier_factor=1.0, policy_factor=1.0),
    train=replace(SMALL_TRAIN, rate=2e-3),
    augment=Augment(crop="random"),
)
