"""Systems that choose against a grid of systems that do not, on videos that need pixels, order and choice.

The videos are those of experiments/signals_data.py. All networks are a ResNet-10 of quarter width, and the
glances one of an eighth; all have first seen the same single frames, as those of the papers have seen
ImageNet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments import focus
from experiments.clips import Split, in_order
from experiments.signals_data import CLASSES, FRAMES, SEEN, SIDE, Signals, Stills, places, sized, stills
from foveate.backbones.build import build_backbone
from foveate.clip import ClipSpec
from foveate.layers.normalise import to_clip
from foveate.models.adafocus.uni import UniModel
from foveate.models.adafocus.uni_clip import UniTSM, UniTSMConfig
from foveate.models.adafocus.v2_tsm import AdaFocusV2TSM, AdaFocusV2TSMConfig
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.objective import Classification
from foveate.train.optim import learn_only
from foveate.train.recipes.focus_objectives import EndToEndObjective
from foveate.train.recipes.uni import UniObjective

Fields = dict[str, Any]

BATCH = 16
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

    def __init__(self, width: float, strides: tuple[int, int, int, int], size: int) -> None:
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


def sharp(seed: int) -> nn.Module:
    """What all systems but the glances start from: it saw parts of frames at every scale that they read."""
    torch.manual_seed(seed)
    model = OfFrames(NET["width"], (1, 2, 2, 2), 96)
    batches = Stills(stills(), 96, (96, 192), 64, seed)
    learn("sharp", seed, model, batches, Classification(), learn_only(model, (model, 1)), 12)
    return model.net


def small(seed: int) -> nn.Module:
    """What the glances start from: it saw small whole frames."""
    torch.manual_seed(seed)
    size = FOCUS["glance_size"]
    model = OfFrames(FOCUS["glance_width"], FOCUS["glance_strides"], size)
    batches = Stills(stills(), size, (SIDE, SIDE), 64, seed)
    learn("small", seed, model, batches, Classification(), learn_only(model, (model, 1)), 10)
    return model.net


def judge(model: VideoModel, split: Split) -> float:
    said = []
    for batch in in_order(split, 16):
        frames = batch.frames[:, 0][:, torch.from_numpy(places(model.spec.frames))]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            said.append(model(to_clip(frames, model.spec)).float().argmax(1))
    return float((torch.cat(said) == split.labels).float().mean())


# ---- systems


def tsn(size: int, frames: int = 8, temporal: str = "none") -> VideoModel:
    name = "tsm_r10_8" if temporal == "shift" else "tsn_r10_8"
    return create_model(name, len(CLASSES), frames=frames, size=size, resize=size, **NET)


def tsm(size: int, frames: int) -> VideoModel:
    return tsn(size, frames, "shift")


def full_video() -> VideoModel:
    fields = NET | {"backbone": "resnet10", "frames": FRAMES, "clusters": 8, "size": SIDE, "resize": SIDE}
    return create_model("fullvideo_small", len(CLASSES), **fields)


def uni(looks: int, frames: str = "learned", boxes: str = "learned") -> UniTSM:
    """Uni-AdaFocus on TSM. frames: learned or uniform. boxes: learned, centre or random."""
    fields = FOCUS | {"temporal_width": 32, "spatial_width": 16, "least_box": FOCUS["patch"] / SIDE}
    model = UniTSMConfig(candidates=FRAMES, glance_frames=GLANCES, local_frames=looks, **fields).build()
    if frames == "uniform":
        model.temporal_policy = EvenWeights()
    if boxes != "learned":
        model.spatial_policy = FixedBoxes(boxes == "random")
    return model


def v2(looks: int) -> AdaFocusV2TSM:
    fields = FOCUS | {"frames": FRAMES, "glance_frames": GLANCES, "local_frames": looks}
    return AdaFocusV2TSMConfig(policy_width=128, policy_squeeze=32, **fields).build()


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
        corner = torch.full((len(maps), 1, 2), 0.5, device=maps.device)
        corner = torch.rand_like(corner) if self.anywhere else corner
        return torch.cat([corner, torch.zeros_like(corner)], -1)


def begin(seed: int, net: nn.Module, start: Callable[[int], nn.Module]) -> None:
    """Give a network the weights of one that has seen single frames."""
    net.load_state_dict(start(seed).state_dict())


def train_whole(name: str, epochs: int, make: Callable[[], VideoModel], seed: int) -> VideoModel:
    """A network that sees whole frames."""
    torch.manual_seed(seed)
    model: Any = make()
    begin(seed, model.backbone, sharp)
    batches = Signals(sized("train", model.spec.size), model.spec.frames, BATCH, seed)
    learn(name, seed, model, batches, Classification(), learn_only(model, (model, 1)), epochs)
    return model


def train_focus(name: str, epochs: int, make: Callable[[], VideoModel], objective: Any, seed: int) -> VideoModel:
    torch.manual_seed(seed)
    model: Any = make()
    begin(seed, model.glance, small)
    begin(seed, model.local, sharp)
    batches = Signals(sized("train", SIDE), FRAMES, BATCH, seed)
    learn(name, seed, model, batches, objective, learn_only(model, (model, 1)), epochs)
    return model
