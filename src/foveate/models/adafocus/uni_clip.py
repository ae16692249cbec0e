"""Uni-AdaFocus where motion matters: both networks see their frames together, in one box for the whole video.

Wang et al., "Uni-AdaFocus", TPAMI 2024 (arXiv 2412.11228): on TSM for Something-Something and Jester, on X3D
for Kinetics-400. The answer is the sum of both networks' logits, from detached features. What trains the
networks are second, auxiliary heads, and the glance's is also the answer of who is sure before any close
look. The pass over a clip stands in uni.py. Where this code differs: glances and candidates come out of one
clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.backbones.build import FrameNet
from foveate.backbones.slots import Temporal, temporal_slot
from foveate.backbones.x3d import X3DBackbone
from foveate.clip import ClipSpec
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.boxes import box_pixels
from foveate.layers.fold import fold_time, unfold_time
from foveate.layers.fully_conv_head import FullyConvHead
from foveate.layers.pool import pool_space
from foveate.layers.shrink import shrink
from foveate.models.adafocus.config import FocusNetworks, check_sizes
from foveate.models.adafocus.seen import Glance
from foveate.models.adafocus.uni import Memory, UniModel
from foveate.models.adafocus.uni_config import UniChoices
from foveate.models.conv3d import MEAN, STD


class UniClipModel(UniModel):
    """What the models with one box a video share. Each makes its heads and says what `clip_logits` are."""

    parts = ("glance_at", "temporal_policy", "spatial_policy", "local_features")
    head_names = (*UniModel.head_names, "glance_head.", "local_head.")
    glance_answers_by, looks_answer_by = ("glance_head", "glance_aux"), ("local_head",)
    glances_alone, detached = False, True
    glance_head: nn.Module
    local_head: nn.Module
    glance_aux: nn.Module
    local_aux: nn.Module

    def make_heads(self, num_classes: int) -> None:
        """New, untrained heads of both networks."""
        raise TypeError(f"{type(self).__name__} does not implement `make_heads`")

    def clip_logits(self, head: nn.Module, features: Tensor) -> Tensor:
        """What a network adds to the answer, (B, classes). features: (B, k, F), detached inside."""
        raise TypeError(f"{type(self).__name__} does not implement `clip_logits`")

    def reset_head(self, num_classes: int) -> None:
        self.make_heads(num_classes)
        super().reset_head(num_classes)

    def remember(self, glance: Glance) -> Memory:
        return (self.clip_logits(self.glance_head, glance.features),)

    def answer_glance(self, glance: Glance, memory: Memory) -> Tensor:
        return self.auxiliary(self.glance_aux(glance.features))

    def accumulate(self, memory: Memory, local: Tensor) -> tuple[Tensor, Memory]:
        (glance,) = memory
        return (glance + self.clip_logits(self.local_head, local)).unsqueeze(1), memory

    def answer_known(self, known: Tensor, first: int = 0) -> Tensor:
        return known

    def answers(self, glance: Glance, *looks: Tensor) -> list[Tensor]:
        memory = self.remember(glance)
        return [self.answer_looks(memory, local)[0] for local in looks]

    def auxiliary(self, logits: Tensor) -> Tensor:
        return logits.mean(1, keepdim=True)


@dataclass(frozen=True)
class UniTSMConfig(FocusNetworks, UniChoices):
    """Uni-AdaFocus on TSM (Something-Something, Jester)."""

    num_classes: int = 174
    candidates: int = 24
    glance_frames: int = 8
    local_frames: int = 8
    patch: int = 96
    dropout: float = 0.5  # of the pooled features of both networks
    temporal: Temporal = "shift"  # what lets the frames of both networks see each other
    # the same of the glance alone; None: as `temporal`. What a glance has of its neighbours, its weight
    # cannot tell from its own
    glance_temporal: Temporal | None = None
    shift_div: int = 8  # one channel in `shift_div` moves each way
    aggregation: AggregationConfig = TAM  # how, if temporal says so

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choices(2)

    def build(self) -> UniTSM:
        """The untrained model."""
        kinds = (self.glance_temporal or self.temporal, self.glance), (self.temporal, self.local)
        slots = [temporal_slot(kind, name, self.shift_div, self.aggregation) for kind, name in kinds]
        glance, local = self.networks(*slots)
        return UniTSM(glance, local, self.clip_spec(self.candidates, glance), self)


class UniTSM(UniClipModel):
    """Uni-AdaFocus of two 2D networks whose features shift between frames."""

    config: UniTSMConfig

    def __init__(self, glance: FrameNet, local: FrameNet, spec: ClipSpec, config: UniTSMConfig) -> None:
        super().__init__(glance.channels, config.glance_side, config.glance_frames, spec, config)
        self.glance, self.local, self.local_channels = glance, local, local.channels
        self.dropout = nn.Dropout(config.dropout)
        self.make_heads(config.num_classes)

    def make_heads(self, num_classes: int) -> None:
        for name, net in (("glance", self.glance), ("local", self.local)):
            for use in ("head", "aux"):
                head = nn.Linear(net.channels, num_classes)
                nn.init.normal_(head.weight, std=0.001)
                nn.init.zeros_(head.bias)
                setattr(self, f"{name}_{use}", head)

    def glance_at(self, clip: Tensor) -> Glance:
        batch, frames = clip.shape[0], clip.shape[2]
        maps = self.glance(shrink(fold_time(clip), self.config.glance_size), frames)
        features = self.dropout(pool_space(maps, self.config.pool))
        return Glance(maps.unflatten(0, (batch, frames)), features.unflatten(0, (batch, frames)))

    def local_features(self, patches: Tensor, frames: int) -> Tensor:
        features: Tensor = self.dropout(pool_space(self.local(patches, frames), self.config.pool))
        return features

    def clip_logits(self, head: nn.Module, features: Tensor) -> Tensor:
        logits: Tensor = head(features.detach())
        return logits.mean(1)


@dataclass(frozen=True)
class UniX3DConfig(UniChoices):
    """Uni-AdaFocus of two X3D networks (Kinetics-400): S glances, L looks."""

    num_classes: int = 400
    candidates: int = 96
    glance_frames: int = 16
    local_frames: int = 32
    size: int = 224  # S, side of the frame that boxes are cut from, pixels
    resize: int = 256  # short side before the test crop, pixels
    glance_size: int = 160  # side of the frame that f_G sees, pixels
    patch: int = 128  # P, pixels
    width: float = 2.0  # expansion factor of X3D, of both networks
    glance_depth: float = 2.2
    local_depth: float = 5.0
    shortcut_norm: bool = False  # a norm on shortcuts that change only the resolution, as in PySlowFast
    hidden: int = 2048  # units between the pool and the classifier
    dropout: float = 0.5
    # Of the glance's map a box is the same share as of the frame; or as many cells as points are sampled, as
    # in the release, where the largest box is 5.25 of 5 cells
    map_boxes: Literal["share", "points"] = "share"

    def __post_init__(self) -> None:
        check_sizes(self.size, self.resize, self.glance_size, self.patch)
        self.check_choices(2)

    def build(self) -> UniX3D:
        """The untrained model."""
        glance, local = (
            X3DBackbone(self.width, depth, self.shortcut_norm)
            for depth in (self.glance_depth, self.local_depth)
        )
        spec = ClipSpec(self.candidates, size=self.size, resize=self.resize, mean=MEAN, std=STD)
        return UniX3D(glance, local, spec, self)


class UniX3D(UniClipModel):
    """Uni-AdaFocus of two X3D networks."""

    config: UniX3DConfig
    glance_antialias = False

    def __init__(self, glance: X3DBackbone, local: X3DBackbone, spec: ClipSpec, config: UniX3DConfig) -> None:
        side = -(-config.glance_size // 32)
        super().__init__(glance.channels, side, config.glance_frames, spec, config)
        self.glance, self.local, self.local_channels = glance, local, local.channels
        self.make_heads(config.num_classes)

    def make_heads(self, num_classes: int) -> None:
        hidden, share = self.config.hidden, self.config.dropout
        for name, net in (("glance", self.glance), ("local", self.local)):
            embed = nn.Sequential(nn.Conv3d(net.channels, hidden, 1, bias=False), nn.ReLU())
            head = FullyConvHead(hidden, num_classes, 1, share, embed)
            aux = nn.Sequential(
                nn.Linear(net.channels, hidden, bias=False),
                nn.ReLU(),
                nn.Dropout(share),
                nn.Linear(hidden, num_classes),
            )
            setattr(self, f"{name}_head", head)
            setattr(self, f"{name}_aux", aux)

    def glance_at(self, clip: Tensor) -> Glance:
        side, frames = self.config.glance_size, clip.shape[2]
        small = F.interpolate(fold_time(clip), (side, side), mode="bilinear", align_corners=False)
        maps = self.glance(unfold_time(small, frames)).transpose(1, 2)  # (B, T, C, h, w)
        return Glance(maps, maps.mean((-2, -1)))

    def local_features(self, patches: Tensor, frames: int) -> Tensor:
        return fold_time(self.local(unfold_time(patches, frames))).mean((-2, -1))

    def clip_logits(self, head: nn.Module, features: Tensor) -> Tensor:
        assert isinstance(head, FullyConvHead)
        pooled = features.detach().mean(1)[..., None, None, None]  # over a clip's frames, all of one size
        return head.classify(head.features(pooled))[:, 0]

    def map_boxes(self, boxes: Tensor) -> tuple[int, Tensor]:
        points, pixels = super().map_boxes(boxes)
        if self.config.map_boxes == "share":
            return points, pixels
        cells = points * self.config.size / self.config.patch  # of a box as large as the frame
        return points, box_pixels(boxes, self.map_side, self.config.least_box * cells, cells)
