"""Systems that choose against a grid of systems that do not, on videos that need pixels, order and choice.

The videos are those of experiments/signals_data.py. All networks are a ResNet-10 of quarter width, and the
glances one of an eighth; all have first seen the same single frames, as those of the papers have seen
ImageNet. Members of the AdaFocus family find the patch by attention to the glance (`SpatialAttention`), those
with `_paper` in their name by the layers of their papers.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiments import focus
from experiments.clips import ClipBatch, Split, in_order
from experiments.runner import Column, Experiment, Numbers
from experiments.signals_data import (
    CLASSES,
    CONFIG,
    COUNTS,
    FRAMES,
    SEEN,
    SHOWN,
    SIDE,
    STILLS,
    WORK,
    Signals,
    Stills,
    cards,
    moments,
    places,
    sized,
    stills,
)
from experiments.systems import PeakHead
from foveate.backbones.build import STRIDES, build_backbone
from foveate.backbones.resnet2d import Strides
from foveate.clip import ClipSpec
from foveate.layers.boxes import box_edges
from foveate.layers.frame_choice import draw_left_out
from foveate.layers.normalise import to_clip
from foveate.measure.cost import count_macs
from foveate.models.adafocus.seen import FocusPass
from foveate.models.adafocus.uni import UniModel
from foveate.models.adafocus.uni_clip import UniTSM, UniTSMConfig
from foveate.models.adafocus.uni_policies import SpatialAttention
from foveate.models.adafocus.v2_tsm import AdaFocusV2TSM, AdaFocusV2TSMConfig
from foveate.models.arnet import ARNet
from foveate.models.base import VideoModel
from foveate.models.slowfast import SlowFast
from foveate.models.zoo import create_model
from foveate.train.objective import Classification, clip_of
from foveate.train.optim import learn_only
from foveate.train.recipes.arnet import Annealing, ARNetPlan, BranchWarmup, JointTraining, relative_costs
from foveate.train.recipes.focus_objectives import EndToEndObjective
from foveate.train.recipes.uni import UniObjective, draw, expected_answer
from foveate.weights.rename import rename
from foveate.weights.start import TO_PATHWAY

Weights = dict[str, Tensor]
Fields = dict[str, Any]

TRAINED = 1024  # clips
BATCH, EPOCHS = 8, 3
GLANCE_EPOCHS = 8  # of the members of the AdaFocus family, on small frames, before the others
EARLY_RATE = 0.1  # of what has learnt then, in the other epochs, as a share of the others'
GLANCES = 12  # of the 24 frames
RECIPE: Fields = {"rate": 2e-3, "precision": "bf16"}
NET: Fields = {"width": 0.25, "stem": "large", "pool": "max", "dropout": 0.3}
FOCUS: Fields = {
    "glance": "resnet10",
    "local": "resnet10",
    "num_classes": len(CLASSES),
    "size": SIDE,
    "resize": SIDE,
    "glance_size": 64,
    "patch": 96,
    "dropout": 0.3,
    "pool": "max",
    "glance_width": 0.125,
    "local_width": 0.25,
    "glance_strides": (1, 2, 1, 1),
}


UNI_FIELDS: Fields = {
    "temporal_width": 32,
    "spatial_width": 32,
    "glance_temporal": "none",
    "least_box": FOCUS["patch"] / SIDE,
}
ARNET_PLAN = ARNetPlan(branch_epochs=1, joint_epochs=2, temperature_decay=1.0)
CARD_REACH = 5  # pixels from a card's middle that a look must show


# ---- networks that have seen single frames


class OfFrames(VideoModel):
    """A network with a linear head that says what a single frame shows."""

    def __init__(self, width: float, strides: Strides, size: int) -> None:
        super().__init__()
        self.net = build_backbone("resnet10", width, "large", strides=strides)
        self.head = nn.Linear(self.net.channels, len(SEEN))
        self.spec = ClipSpec(1, size=size, resize=size)

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, 1, S, S). Returns logits (B, SEEN)."""
        logits: Tensor = self.head(self.net(clip[:, :, 0], 1).amax((2, 3)))
        return logits


def learn(name: str, seed: int, model: Any, batches: Any, objective: Any, parts: Any, epochs: int) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    focus.train(f"signals_{name}", seed, model, batches, objective, parts, epochs=epochs, **RECIPE)


def sharp(seed: int) -> Weights:
    """What all systems but the glances start from: it saw parts of frames at every scale that they read."""
    return seen_stills("sharp", seed, partial(OfFrames, NET["width"], STRIDES, 96), (96, 192), 12)


def small(seed: int) -> Weights:
    """What the glances start from: it saw small whole frames."""
    make = partial(OfFrames, FOCUS["glance_width"], FOCUS["glance_strides"], FOCUS["glance_size"])
    return seen_stills("small", seed, make, (SIDE, SIDE), 10)


def seen_stills(
    name: str, seed: int, make: Callable[[], OfFrames], cut: tuple[int, int], epochs: int
) -> Weights:
    """Weights of a network that has learnt what single frames show."""

    def learnt() -> Weights:
        torch.manual_seed(seed)
        model = make()
        batches = Stills(stills(), 64, seed, model.spec.size, cut)
        learn(name, seed, model, batches, Classification(), learn_only(model, (model, 1)), epochs)
        return model.net.state_dict()

    return kept(name, seed, learnt)


def kept(name: str, seed: int, learnt: Callable[[], Weights]) -> Weights:
    """Weights that several systems start from, learnt at the first call."""
    path = WORK / "starts" / f"{name}-seed{seed}.pt"
    if not path.exists():
        weights = learnt()
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")  # several cells may begin at once
        torch.save(weights, part)
        part.replace(path)
    return torch.load(path)


# ---- systems


def whole(name: str, size: int, frames: int) -> VideoModel:
    """TSN or TSM on whole frames."""
    return create_model(f"{name}_r10_8", len(CLASSES), frames=frames, size=size, resize=size, **NET)


def full_video() -> VideoModel:
    fields = NET | {"backbone": "resnet10", "frames": FRAMES, "clusters": 8, "size": SIDE, "resize": SIDE}
    return create_model("fullvideo_small", len(CLASSES), **fields)


def uni(
    looks: int,
    frames: Literal["learned", "uniform"] = "learned",
    boxes: Literal["attention", "paper", "centre", "random"] = "attention",
) -> UniTSM:
    """Uni-AdaFocus on TSM; its boxes have the patch's own size, but by the paper's policy any."""
    spatial: Literal["boxes", "attention"] = "attention" if boxes == "attention" else "boxes"
    fields = FOCUS | UNI_FIELDS | {"spatial": spatial}
    model = UniTSMConfig(candidates=FRAMES, glance_frames=GLANCES, local_frames=looks, **fields).build()
    if frames == "uniform":
        model.temporal_policy = EvenWeights()
    if boxes in ("centre", "random"):
        model.spatial_policy = FixedBoxes(boxes == "random")
    return model


def v2(looks: int, boxes: Literal["attention", "paper"] = "attention") -> AdaFocusV2TSM:
    """AdaFocusV2 on TSM; its glance has no shift either, which costs the attention its aim."""
    fields = FOCUS | {"frames": FRAMES, "glance_frames": GLANCES, "local_frames": looks}
    model = AdaFocusV2TSMConfig(policy_width=128, policy_squeeze=32, **fields).build()
    strides = FOCUS["glance_strides"]
    model.glance = build_backbone("resnet10", FOCUS["glance_width"], "large", strides=strides)
    if boxes == "attention":
        model.__class__ = AttendingV2
        model.policy = Attention(model)
    return model


class Attention(nn.Module):
    """The attention of Uni-AdaFocus as the policy of V2, and the classifier that teaches it."""

    def __init__(self, model: AdaFocusV2TSM) -> None:
        super().__init__()
        config, channels = model.config, model.glance.channels
        least, stride = config.patch / config.size, config.glance_size // config.glance_side
        self.where = SpatialAttention(
            channels, UNI_FIELDS["spatial_width"], GLANCES, least, stride, config.glance_size
        )
        self.answer = nn.Linear(channels, config.num_classes)

    def forward(self, maps: Tensor) -> Tensor:
        """maps: (B, T, C, h, w). Returns positions (B, 2)."""
        corner: Tensor = self.where(maps)[:, 0, :2]
        return corner

    def say(self, maps: Tensor) -> Tensor:
        """Logits (B, 1, classes) of what is attended to."""
        logits: Tensor = self.answer(self.where.attended(maps))
        return logits


class AttendingV2(AdaFocusV2TSM):
    """AdaFocusV2 on TSM whose policy learns from labels as well as by the gradient through the patch."""

    def auxiliary(self, seen: FocusPass) -> list[Tensor]:
        return [*super().auxiliary(seen), self.policy.say(seen.glance.maps)]


def slowfast() -> SlowFast:
    """Eight frames for the slow pathway, all 24 for the fast one."""
    fields = {"frames": FRAMES, "alpha": 3, "stem": "large", "width": NET["width"], "dropout": NET["dropout"]}
    model = create_model("slowfast_small", len(CLASSES), size=SIDE, resize=SIDE, **fields)
    assert isinstance(model, SlowFast)
    model.head = PeakHead(model.head.channels, len(CLASSES), model.head.window, NET["dropout"])
    return model


def arnet() -> ARNet:
    """Three sizes, the glance's own answer, or frames left out, for twelve frames."""
    fields: Fields = {"sizes": (SIDE, 160, 112), "widths": (NET["width"],) * 3, "frames": 12, "pool": "max"}
    fields |= {"glance_size": FOCUS["glance_size"], "glance_width": FOCUS["glance_width"], "stem": "large"}
    model = create_model("arnet_small", len(CLASSES), resize=SIDE, dropout=NET["dropout"], **fields)
    assert isinstance(model, ARNet)
    return model


class EvenWeights(nn.Module):
    """A temporal policy that prefers no moment."""

    def forward(self, features: Tensor) -> Tensor:
        return features.new_full(features.shape[:2], 1 / features.shape[1])


class FixedBoxes(nn.Module):
    """A spatial policy that looks at the centre, or anywhere, in a box as small as can be."""

    def __init__(self, anywhere: bool) -> None:
        super().__init__()
        self.anywhere = anywhere

    def forward(self, maps: Tensor) -> Tensor:
        corner = torch.full_like(maps[:, :1, :2, 0, 0], 0.5)
        corner = torch.rand_like(corner) if self.anywhere else corner
        return torch.cat([corner, torch.zeros_like(corner)], -1)


def train_whole(make: Callable[[], VideoModel], name: str, seed: int, epochs: int = EPOCHS) -> VideoModel:
    """A network that sees whole frames."""
    torch.manual_seed(seed)
    model: Any = make()
    model.backbone.load_state_dict(sharp(seed))
    train(name, seed, model, Classification(), epochs)
    return model


def train_slowfast(make: Callable[[], VideoModel], name: str, seed: int) -> VideoModel:
    """The slow pathway starts from the network of single frames, whose kernels are inflated."""
    torch.manual_seed(seed)
    model: Any = make()
    slow = {f"net.{key}": value for key, value in model.slow.state_dict().items()}
    start = rename({f"backbone.{key}": value for key, value in sharp(seed).items()}, TO_PATHWAY, "start")
    with torch.no_grad():
        for key, value in start.items():
            wanted = slow[key]
            if value.ndim == 4:  # channels of the fast pathway come last, and begin at zero
                wanted[:, value.shape[1] :] = 0
                wanted[:, : value.shape[1]] = value.unsqueeze(2) / wanted.shape[2]
            else:
                wanted.copy_(value)
    train(name, seed, model, Classification())
    return model


def train_arnet(make: Callable[[], VideoModel], name: str, seed: int) -> VideoModel:
    """All networks on all frames, then with the policy."""
    torch.manual_seed(seed)
    model: Any = make()
    for net in model.nets:
        net.load_state_dict(sharp(seed))
    model.glance.load_state_dict(small(seed))
    train(f"{name}_branches", seed, model, BranchWarmup(focus.CROSS_ENTROPY), ARNET_PLAN.branch_epochs)
    joint = JointTraining(focus.CROSS_ENTROPY, relative_costs(model), ARNET_PLAN)
    train(name, seed, model, joint, ARNET_PLAN.joint_epochs)
    return model


def train_uni(make: Callable[[], VideoModel], name: str, seed: int) -> VideoModel:
    """Uni-AdaFocus: glance and policies on small frames, then all of it in one stage."""
    policies = "uni_paper" if "paper" in name else "uni"
    objective = UniObjective(focus.CROSS_ENTROPY, size_weight=0, expected="probabilities")
    return train_focus(make, name, seed, glances(policies, seed), objective)


def train_v2(make: Callable[[], VideoModel], name: str, seed: int) -> VideoModel:
    """AdaFocusV2: glance and policy of attention on small frames, then all of it in one stage.

    It takes always the same frames of a clip, which therefore slides in time.
    """
    objective = EndToEndObjective(focus.CROSS_ENTROPY)
    return train_focus(make, name, seed, glances("v2", seed), objective, slide=1)


def train_focus(
    make: Callable[[], VideoModel],
    name: str,
    seed: int,
    glanced: Weights,
    objective: Any,
    slide: int = 0,
) -> VideoModel:
    """What a glance can learn alone came first, so that the local network is shown the right things.

    glanced: what has learnt already, and goes on slowly; of it, what the system has.
    """
    torch.manual_seed(seed)
    model: Any = make()
    own = model.state_dict()
    model.load_state_dict(own | {key: value for key, value in glanced.items() if key in own})
    model.local.load_state_dict(sharp(seed))
    parts = {part: key for key, part in model.named_children() if any(True for _ in part.parameters())}
    learnt = {key.partition(".")[0] for key in glanced if key in own}
    groups = learn_only(model, *((part, EARLY_RATE if key in learnt else 1) for part, key in parts.items()))
    batches = Signals(training(SIDE), BATCH, seed, FRAMES, slide)
    learn(name, seed, model, batches, objective, groups, EPOCHS)
    return model


def glances(policies: Literal["uni", "uni_paper", "v2"], seed: int) -> Weights:
    """Weights of a glance and its policies, which have learnt on small frames; looks have no part in it."""

    def learnt() -> Weights:
        torch.manual_seed(seed)
        model: Any = GLANCING[policies]()
        model.glance.load_state_dict(small(seed))
        early = dict.fromkeys((model.glance, model.glance_aux), 1.0)
        if policies == "v2":
            early[model.policy] = 1.0
        else:  # the temporal policy can only begin where the glance is sure
            early |= {model.spatial_policy: 1.0, model.box_aux: 1.0, model.temporal_policy: 4.0}
        objective: Any = V2Glances() if policies == "v2" else UniGlances()
        batches = Signals(training(FOCUS["glance_size"]), BATCH, seed, FRAMES)
        groups = learn_only(model, *early.items())
        learn(f"{policies}_glances", seed, model, batches, objective, groups, GLANCE_EPOCHS)
        names = {key for key, part in model.named_children() if part in early}
        return {key: value for key, value in model.state_dict().items() if key.partition(".")[0] in names}

    return kept(f"{policies}_glances", seed, learnt)


GLANCING: dict[str, Callable[[], VideoModel]] = {
    "uni": partial(uni, 4),
    "uni_paper": partial(uni, 4, boxes="paper"),
    "v2": partial(v2, 4),
}


class UniGlances:
    """The terms of `UniStep` in which the local network has no part."""

    def __call__(self, model: UniTSM, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        glance = model.glance_at(model.frames_at(clip, model.glanced(clip, draw(model, len(clip)).glances)))
        each, weights = model.glance_aux(glance.features), model.temporal_policy(glance.features.detach())
        expected = expected_answer(
            model, weights, each.detach(), draw_left_out(weights, each.shape[1] // 3), "probabilities"
        )
        boxes = model.spatial_policy(glance.maps)
        said = {
            "glance": model.auxiliary(each)[:, 0],
            "temporal": expected,
            "spatial": model.box_logits(glance, boxes),
        }
        losses = {name: focus.CROSS_ENTROPY(logits.float(), labels) for name, logits in said.items()}
        return {"loss": sum(losses.values()), **{name: loss.detach() for name, loss in losses.items()}}


class V2Glances:
    """The loss of the glance's own answer, and of what the policy attends to."""

    def __call__(self, model: AdaFocusV2TSM, batch: ClipBatch) -> dict[str, Tensor]:
        clip, labels = clip_of(model, batch)
        glance = model.glance_at(clip[:, :, model.places(clip.shape[2])[0]])
        said = [model.glance_aux(glance.features).mean(1), model.policy.say(glance.maps)[:, 0]]
        losses = [focus.CROSS_ENTROPY(logits.float(), labels) for logits in said]
        return {"loss": torch.stack(losses).sum(), "spatial": losses[-1].detach()}


def train(name: str, seed: int, model: VideoModel, objective: Any, epochs: int = EPOCHS) -> None:
    """All of a model, on clips."""
    batches: Any = Signals(training(model.spec.size), BATCH, seed, model.spec.frames)
    if isinstance(objective, JointTraining):
        batches = Annealing(batches, ARNET_PLAN)
    learn(name, seed, model, batches, objective, learn_only(model, (model, 1)), epochs)


def training(size: int) -> Split:
    """The clips that all systems learn from."""
    split = sized("train", size)
    return Split(split.frames[:TRAINED], split.labels[:TRAINED])


# ---- measuring


@torch.inference_mode()
def judge(model: VideoModel) -> Numbers:
    """Top-1 on the test clips and multiply-adds of a clip; of Uni-AdaFocus, what its looks show."""
    torch.manual_seed(0)  # of random boxes
    split, still = sized("test", model.spec.size), torch.from_numpy(places(model.spec.frames))
    totals: Counter[str] = Counter()
    places_of = cards("test")
    for batch in in_order(split, 16):
        clip = to_clip(batch.frames[:, 0][:, still], model.spec)
        said: list[Tensor] = []
        macs = count_macs(model, clip, call=lambda clip, said=said: said.append(model(clip))).total
        totals["top1"] += int((said[0].argmax(1) == batch.labels).sum())
        totals["mmacs"] += macs / 1e6
        if isinstance(model, UniModel):
            totals.update(seen(model, clip, moments("test")[batch.indices], places_of[batch.indices]))
    return {name: total / len(split.labels) for name, total in totals.items()}


def seen(model: UniModel, clip: Tensor, first: Tensor, places: Tensor) -> Numbers:
    """Sums over clips: looks at a moment when a card is up, and the share of both cards that a look shows.

    first: the first of these moments, (B,). places: of the card, (B, N, 2), in pixels.
    """
    _, choice, _ = model.see(clip)
    after = choice.frames - first.unsqueeze(1)
    there = places.gather(1, choice.frames.unsqueeze(-1).expand(-1, -1, 2))
    edges = box_edges(model.pixels(choice.boxes))
    inside = ((there > edges[..., :2] + CARD_REACH) & (there < edges[..., 2:] - CARD_REACH)).all(-1)
    shown = [((after // SHOWN == turn) & inside).any(1) for turn in (0, 1)]
    timely = (after >= 0) & (after < 2 * SHOWN)
    return {"timely": float(timely.sum()), "shown": sum(float(card.sum()) for card in shown) / 2}


# ---- the table


@dataclass(frozen=True)
class System:
    """A row: an untrained model, and how it is trained."""

    make: Callable[[], VideoModel]
    train: Callable[[Callable[[], VideoModel], str, int], VideoModel] = train_whole


SYSTEMS: dict[str, System] = {
    "uni_4": System(partial(uni, 4), train_uni),
    "tsm_224_8": System(partial(whole, "tsm", 224, 8)),
    "uni_8": System(partial(uni, 8), train_uni),
    "v2_4": System(partial(v2, 4), train_v2),
    "v2_8": System(partial(v2, 8), train_v2),
    "uni_uniform_4": System(partial(uni, 4, "uniform"), train_uni),
    "uni_uniform_8": System(partial(uni, 8, "uniform"), train_uni),
    "tsm_224_16": System(partial(whole, "tsm", 224, 16)),
    "tsm_112_8": System(partial(whole, "tsm", 112, 8)),
    "tsm_112_16": System(partial(whole, "tsm", 112, 16)),
    "tsm_160_16": System(partial(whole, "tsm", 160, 16)),
    "tsm_160_8": System(partial(whole, "tsm", 160, 8)),
    "tsm_224_4": System(partial(whole, "tsm", 224, 4)),
    "tsm_160_4": System(partial(whole, "tsm", 160, 4)),
    "tsm_112_4": System(partial(whole, "tsm", 112, 4)),
    "uni_centre_4": System(partial(uni, 4, boxes="centre"), train_uni),
    "uni_random_4": System(partial(uni, 4, boxes="random"), train_uni),
    "uni_paper_4": System(partial(uni, 4, boxes="paper"), train_uni),
    "v2_paper_4": System(partial(v2, 4, "paper"), train_v2),
    # for as many passes over the clips as the glances of Uni-AdaFocus and then all of it
    "tsm_224_8_long": System(
        partial(whole, "tsm", 224, 8), partial(train_whole, epochs=GLANCE_EPOCHS + EPOCHS)
    ),
    "tsn_112_8": System(partial(whole, "tsn", 112, 8)),
    "tsn_160_8": System(partial(whole, "tsn", 160, 8)),
    "tsn_224_8": System(partial(whole, "tsn", 224, 8)),
    "arnet": System(arnet, train_arnet),
    "slowfast": System(slowfast, train_slowfast),
    "full_video": System(full_video),
}


def run(variant: str, seed: int) -> Numbers:
    torch.set_num_threads(1)
    system = SYSTEMS[variant]
    return judge(system.train(system.make, variant, seed).eval())


EXPERIMENT = Experiment(
    name="signals",
    claim="Systems that choose against a grid of systems that see whole frames, on a small person who shows "
    "two cards for a moment. All start from networks that have seen the same single frames and see the same "
    f"clips {EPOCHS} times; those that choose have their glance and policies learn first, {GLANCE_EPOCHS} "
    f"times over these clips at {FOCUS['glance_size']} pixels. In a name: close looks, or the side of frames "
    f"and their number; long: {GLANCE_EPOCHS + EPOCHS} times in place of {EPOCHS}.",
    variants=tuple(SYSTEMS),
    columns=(
        Column("top1", "test top-1, %", 100),
        Column("mmacs", "MMACs a video"),
        Column("timely", "looks at a moment when a card is up", 1),
        Column("shown", "cards shown by a look, %", 100),
    ),
    run=run,
    settings={
        "clips": {"train": TRAINED, "test": COUNTS["test"], "stills": STILLS},
        "videos": str(CONFIG),
        "net": NET,
        "focus": FOCUS | UNI_FIELDS | {"glances": GLANCES},
        "arnet": str(ARNET_PLAN),
        "recipe": RECIPE
        | {
            "batch": BATCH,
            "epochs": EPOCHS,
            "glance_epochs": GLANCE_EPOCHS,
            "early_rate": EARLY_RATE,
            "optimizer": "AdamW, decay 0.02, cosine",
        },
    },
    plot=("mmacs", "top1"),
)
