"""Systems that choose against a grid of systems that do not, on videos that need pixels, order and choice.

The videos are those of experiments/signals_data.py. All networks are a ResNet-10 of quarter width, and the
glances one of an eighth; all have first seen the same single frames, as those of the papers have seen
ImageNet.
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
from experiments.clips import Split, in_order
from experiments.focus_data import covered
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
    moments,
    places,
    sized,
    stills,
)
from foveate.backbones.build import STRIDES, build_backbone
from foveate.backbones.resnet2d import Strides
from foveate.clip import ClipSpec
from foveate.layers.boxes import box_edges
from foveate.layers.normalise import to_clip
from foveate.measure.cost import count_macs
from foveate.models.adafocus.uni import UniModel
from foveate.models.adafocus.uni_clip import UniTSM, UniTSMConfig
from foveate.models.adafocus.uni_policies import SpatialPolicy
from foveate.models.adafocus.v2_tsm import AdaFocusV2TSM, AdaFocusV2TSMConfig
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.objective import Classification
from foveate.train.optim import learn_only
from foveate.train.recipes.focus_objectives import EndToEndObjective
from foveate.train.recipes.uni import UniObjective

Weights = dict[str, Tensor]
Fields = dict[str, Any]

TRAINED = 1024  # clips
BATCH, EPOCHS = 8, 3
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
    "patch": 64,
    "dropout": 0.3,
    "pool": "max",
    "glance_width": 0.125,
    "local_width": 0.25,
    "glance_strides": (1, 2, 1, 1),
}


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
    path = WORK / "starts" / f"{name}-seed{seed}.pt"
    if not path.exists():
        torch.manual_seed(seed)
        model = make()
        batches = Stills(stills(), 64, seed, model.spec.size, cut)
        learn(name, seed, model, batches, Classification(), learn_only(model, (model, 1)), epochs)
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")  # several cells may begin at once
        torch.save(model.net.state_dict(), part)
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
    boxes: Literal["learned", "centre", "random"] = "learned",
) -> UniTSM:
    """Uni-AdaFocus on TSM, with boxes of the patch's own size."""
    fields = FOCUS | {"temporal_width": 32, "spatial_width": 16, "least_box": FOCUS["patch"] / SIDE}
    model = UniTSMConfig(candidates=FRAMES, glance_frames=GLANCES, local_frames=looks, **fields).build()
    if frames == "uniform":
        model.temporal_policy = EvenWeights()
    if boxes == "learned":
        channels, side = model.glance.channels, model.config.glance_side
        model.spatial_policy = SmallBoxes(channels, side, model.config.spatial_width, model.span)
    else:
        model.spatial_policy = FixedBoxes(boxes == "random")
    return model


def v2(looks: int) -> AdaFocusV2TSM:
    fields = FOCUS | {"frames": FRAMES, "glance_frames": GLANCES, "local_frames": looks}
    return AdaFocusV2TSMConfig(policy_width=128, policy_squeeze=32, **fields).build()


class EvenWeights(nn.Module):
    """A temporal policy that prefers no moment."""

    def forward(self, features: Tensor) -> Tensor:
        return features.new_full(features.shape[:2], 1 / features.shape[1])


class SmallBoxes(SpatialPolicy):
    """A spatial policy of boxes as small as can be: larger ones would lose the pixels that cards need."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps) * maps.new_tensor([1.0, 1.0, 0.0, 0.0])


class FixedBoxes(nn.Module):
    """A spatial policy that looks at the centre, or anywhere, in a box as small as can be."""

    def __init__(self, anywhere: bool) -> None:
        super().__init__()
        self.anywhere = anywhere

    def forward(self, maps: Tensor) -> Tensor:
        corner = torch.full((len(maps), 1, 2), 0.5, device=maps.device)
        corner = torch.rand_like(corner) if self.anywhere else corner
        return torch.cat([corner, torch.zeros_like(corner)], -1)


def train_whole(make: Callable[[], VideoModel], name: str, seed: int) -> VideoModel:
    """A network that sees whole frames."""
    torch.manual_seed(seed)
    model: Any = make()
    model.backbone.load_state_dict(sharp(seed))
    batches = Signals(training(model.spec.size), BATCH, seed, model.spec.frames)
    learn(name, seed, model, batches, Classification(), learn_only(model, (model, 1)), EPOCHS)
    return model


def train_focus(objective: Any, make: Callable[[], VideoModel], name: str, seed: int) -> VideoModel:
    """A member of the AdaFocus family, all of it in one stage."""
    torch.manual_seed(seed)
    model: Any = make()
    model.glance.load_state_dict(small(seed))
    model.local.load_state_dict(sharp(seed))
    batches = Signals(training(SIDE), BATCH, seed, FRAMES)
    learn(name, seed, model, batches, objective, learn_only(model, (model, 1)), EPOCHS)
    return model


def training(size: int) -> Split:
    """The clips that all systems learn from."""
    split = sized("train", size)
    return Split(split.frames[:TRAINED], split.labels[:TRAINED])


# ---- measuring


@torch.inference_mode()
def judge(model: VideoModel) -> Numbers:
    """Top-1 on the test clips and multiply-adds of a clip; of Uni-AdaFocus, what its looks saw."""
    torch.manual_seed(0)  # of random boxes
    split, still = sized("test", model.spec.size), torch.from_numpy(places(model.spec.frames))
    totals: Counter[str] = Counter()
    for batch in in_order(split, 16):
        clip = to_clip(batch.frames[:, 0][:, still], model.spec)
        said: list[Tensor] = []
        with torch.autocast("cpu", torch.bfloat16):
            macs = count_macs(model, clip, call=lambda clip, said=said: said.append(model(clip))).total
        totals["top1"] += int((said[0].argmax(1) == batch.labels).sum())
        totals["mmacs"] += macs / 1e6
        if isinstance(model, UniModel):
            totals.update(seen(model, clip, moments("test")[batch.indices], split.boxes[batch.indices]))
    return {name: total / len(split.labels) for name, total in totals.items()}


def seen(model: UniModel, clip: Tensor, first: Tensor, boxes: Tensor) -> Numbers:
    """Sums over clips: looks at a moment when a card is up, and the share of the person that they cover.

    first: the first of these moments, (B,). boxes: the person's, (B, N, 4).
    """
    _, choice, _ = model.see(clip)
    after = choice.frames - first.unsqueeze(1)
    there = boxes.gather(1, choice.frames.unsqueeze(-1).expand(-1, -1, 4))
    patches = box_edges(model.pixels(choice.boxes))
    timely = (after >= 0) & (after < 2 * SHOWN)
    return {"timely": float(timely.sum()), "covered": float(covered(patches, there).mean(1).sum())}


# ---- the table


@dataclass(frozen=True)
class System:
    """A row: an untrained model, and how it is trained."""

    make: Callable[[], VideoModel]
    train: Callable[[Callable[[], VideoModel], str, int], VideoModel] = train_whole


UNI = partial(train_focus, UniObjective(focus.CROSS_ENTROPY, size_weight=0))
V2 = partial(train_focus, EndToEndObjective(focus.CROSS_ENTROPY))
SYSTEMS: dict[str, System] = {
    "uni_4": System(partial(uni, 4), UNI),
    "tsm_224_8": System(partial(whole, "tsm", 224, 8)),
    "tsm_112_8": System(partial(whole, "tsm", 112, 8)),
    "v2_8": System(partial(v2, 8), V2),
    "uni_uniform_4": System(partial(uni, 4, "uniform"), UNI),
    "tsm_224_16": System(partial(whole, "tsm", 224, 16)),
    "tsm_112_16": System(partial(whole, "tsm", 112, 16)),
    "tsm_160_16": System(partial(whole, "tsm", 160, 16)),
    "uni_8": System(partial(uni, 8), UNI),
    "uni_uniform_8": System(partial(uni, 8, "uniform"), UNI),
    "centre_4": System(partial(uni, 4, "learned", "centre"), UNI),
    "random_4": System(partial(uni, 4, "learned", "random"), UNI),
    "tsm_160_8": System(partial(whole, "tsm", 160, 8)),
    "tsn_112_8": System(partial(whole, "tsn", 112, 8)),
    "tsn_160_8": System(partial(whole, "tsn", 160, 8)),
    "tsn_224_8": System(partial(whole, "tsn", 224, 8)),
    "tsm_112_4": System(partial(whole, "tsm", 112, 4)),
    "tsm_160_4": System(partial(whole, "tsm", 160, 4)),
    "tsm_224_4": System(partial(whole, "tsm", 224, 4)),
    "full_video": System(full_video),
}


def run(variant: str, seed: int) -> Numbers:
    torch.set_num_threads(1)
    system = SYSTEMS[variant]
    return judge(system.train(system.make, variant, seed).eval())


EXPERIMENT = Experiment(
    name="signals",
    claim="Systems that choose against a grid of systems that see whole frames, on a small person who shows "
    "two cards for a moment.",
    variants=tuple(SYSTEMS),
    columns=(
        Column("top1", "test top-1, %", 100),
        Column("mmacs", "MMACs a video"),
        Column("timely", "looks at a moment when a card is up", 1),
        Column("covered", "person covered, %", 100),
    ),
    run=run,
    settings={
        "clips": {"train": TRAINED, "test": COUNTS["test"], "stills": STILLS},
        "videos": str(CONFIG),
        "net": NET,
        "focus": FOCUS | {"glances": GLANCES},
        "recipe": RECIPE | {"batch": BATCH, "epochs": EPOCHS, "optimizer": "AdamW, decay 0.02, cosine"},
    },
    plot=("mmacs", "top1"),
)
