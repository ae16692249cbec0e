"""AdaFocus-TSM: where motion matters, both networks shift features over time and one patch serves the clip.

A TSM-MobileNetV2 glances at 8 frames, a policy reads all its maps at once and gives one continuous position
for the video, a TSM-ResNet-50 looks at that patch in 12 frames, and the mean logits of both are added (Wang
et al., ICCV 2021, section 3.5 and appendix). Where this code differs: both frame sets come out of one clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from foveate.backbones.build import STRIDES, Backbone2D, FrameNet, Stem, build_backbone, map_side
from foveate.backbones.resnet2d import Strides
from foveate.backbones.slots import Temporal, temporal_slot
from foveate.clip import ClipSpec
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.fold import fold_time
from foveate.layers.head import pool_space
from foveate.layers.patch import crop_patches, fraction_corners
from foveate.layers.policy import ClipPolicy
from foveate.layers.shrink import shrink
from foveate.models.adafocus import Where, check_sizes
from foveate.models.base import VideoModel


@dataclass(frozen=True)
class AdaFocusTSMConfig:
    glance: Backbone2D = "mobilenetv2"  # f_G, shifted
    local: Backbone2D = "resnet50"  # f_L, shifted
    num_classes: int = 174
    frames: int = 24  # of the clip; glance and local frames are spread over it
    glance_frames: int = 8
    local_frames: int = 12
    size: int = 224  # S, pixels
    resize: int = 256  # short side before the test crop, pixels
    glance_size: int = 224  # G, pixels
    patch: int = 144  # P, pixels
    policy: Where = "learned"  # the others are what it must beat; a random patch differs at every call
    temporal: Temporal = "shift"  # what lets the frames of both networks see each other
    shift_div: int = 8  # one channel in `shift_div` moves each way
    aggregation: AggregationConfig = TAM  # how, if temporal says so
    policy_squeeze: int = 64  # channels of the policy's 1x1 convolution
    policy_width: int = 1024  # of its GRU
    spread: float = 0.25  # standard deviation of the positions tried in training, per axis
    dropout: float = 0.5  # in front of a head in stages 0 and 1 of its training
    pool: Literal["average", "max"] = "average"  # over space
    glance_width: float = 1.0  # multiplier of the channels
    local_width: float = 1.0
    glance_stem: Stem = "large"
    local_stem: Stem = "large"
    glance_strides: Strides = STRIDES  # of a ResNet's stages: smaller ones keep small things apart

    def __post_init__(self) -> None:
        check_sizes(self.size, self.resize, self.glance_size, self.patch)
        if max(self.glance_frames, self.local_frames) > self.frames:
            raise ValueError(f"a clip of {self.frames} frames is shorter than the frames looked at")

    def build(self) -> AdaFocusTSM:
        """The untrained model."""
        slots = [
            temporal_slot(self.temporal, name, self.shift_div, self.aggregation)
            for name in (self.glance, self.local)
        ]
        glance = build_backbone(
            self.glance, self.glance_width, self.glance_stem, slots[0], strides=self.glance_strides
        )
        local = build_backbone(self.local, self.local_width, self.local_stem, slots[1])
        side = map_side(self.glance_size, self.glance_stem, self.glance_strides)
        channels, frames = glance.channels, self.glance_frames
        size = (channels, frames, side, self.policy_squeeze, self.policy_width)
        policy = ClipPolicy(*size) if self.policy == "learned" else None
        spec = ClipSpec(self.frames, size=self.size, resize=self.resize, mean=glance.mean, std=glance.std)
        return AdaFocusTSM(glance, policy, local, spec, self)


@dataclass(frozen=True)
class ClipFocusTrace:
    """Where the clip was looked at. logits: (B, classes). glance_logits, local_logits: (B, T', classes).

    fractions: (B, 2), the position in [0, 1]. corners: (B, 1, 2), its row and column in pixels. patch: side.
    looked: (B, T), whether the local network saw the frame. read: (B, T), whether it or the glance did.
    """

    logits: Tensor
    glance_logits: Tensor
    local_logits: Tensor
    fractions: Tensor
    corners: Tensor
    patch: int
    looked: Tensor
    read: Tensor


class AdaFocusTSM(VideoModel):
    """Shifted glance, one position a clip, shifted local network, two logits added."""

    config: AdaFocusTSMConfig
    head_names = ("glance_head.", "local_head.")

    def __init__(
        self,
        glance: FrameNet,
        policy: ClipPolicy | None,
        local: FrameNet,
        spec: ClipSpec,
        config: AdaFocusTSMConfig,
    ) -> None:
        super().__init__()
        self.glance = glance
        self.policy = policy
        self.local = local
        self.glance_head = nn.Linear(glance.channels, config.num_classes)
        self.local_head = nn.Linear(local.channels, config.num_classes)
        self.spec = spec
        self.config = config

    @property
    def num_classes(self) -> int:
        return self.local_head.out_features

    @property
    def room(self) -> int:
        """S - P, pixels that a patch can move."""
        return self.config.size - self.config.patch

    def reset_head(self, num_classes: int) -> None:
        self.glance_head = nn.Linear(self.glance_head.in_features, num_classes)
        self.local_head = nn.Linear(self.local_head.in_features, num_classes)
        self.config = replace(self.config, num_classes=num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, S, S). Returns logits (B, classes)."""
        return self.trace(clip).logits

    def trace(self, clip: Tensor) -> ClipFocusTrace:
        """The logits and where the model looked. clip: (B, 3, T, S, S)."""
        glanced, looked = self.places(clip.shape[2])
        trace = self.trace_frames(clip[:, :, glanced], clip[:, :, looked])
        among = torch.zeros(len(clip), clip.shape[2], dtype=torch.bool)
        read = among.index_fill(1, torch.tensor(glanced + looked), True)
        return replace(trace, looked=among.index_fill(1, torch.tensor(looked), True), read=read)

    def places(self, frames: int) -> tuple[list[int], list[int]]:
        """Of the frames that the glance and the local network see, in a clip of so many."""
        return spread_over(frames, self.config.glance_frames), spread_over(frames, self.config.local_frames)

    def trace_frames(self, glance_clip: Tensor, local_clip: Tensor) -> ClipFocusTrace:
        """The same on two sets of frames, (B, 3, glance_frames, S, S) and (B, 3, T', S, S).

        `looked` and `read` are then about the second set.
        """
        ran = torch.ones(local_clip.shape[0], local_clip.shape[2], dtype=torch.bool)
        maps, glance_logits = self.glance_at(glance_clip)
        fractions = self.choose(maps)
        local_logits = self.look_at(local_clip, fractions)
        return ClipFocusTrace(
            logits=glance_logits.mean(1) + local_logits.mean(1),
            glance_logits=glance_logits,
            local_logits=local_logits,
            fractions=fractions,
            corners=fraction_corners(fractions, self.room).unsqueeze(1),
            patch=self.config.patch,
            looked=ran,
            read=ran,
        )

    def glance_at(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, T, C, h, w) and logits (B, T, classes) of f_G. clip: (B, 3, T, S, S)."""
        maps = self.glance(shrink(fold_time(clip), self.config.glance_size), clip.shape[2])
        maps = maps.unflatten(0, (clip.shape[0], clip.shape[2]))
        return maps, self.glance_head(self.pool(maps))

    def choose(self, maps: Tensor) -> Tensor:
        """The position in each clip, (B, 2) in [0, 1], the most probable one. maps: (B, T, C, h, w)."""
        if self.policy is not None:
            position: Tensor = self.policy(maps)[0]
            return position
        if self.config.policy == "centre":
            return torch.full((len(maps), 2), 0.5, device=maps.device)
        return torch.rand(len(maps), 2, device=maps.device)

    def look_at(self, clip: Tensor, fractions: Tensor) -> Tensor:
        """Logits (B, T', classes) of f_L on the patch at one position a video, (B, 2)."""
        logits: Tensor = self.local_head(self.patch_features(self.cut(clip, fractions)))
        return logits

    def cut(self, clip: Tensor, fractions: Tensor) -> Tensor:
        """The clip (B, 3, T', P, P) of the patches at one position a video, (B, 2)."""
        frames = clip.shape[2]
        corners = fraction_corners(fractions, self.room).repeat_interleave(frames, 0)  # (B*T', 2)
        patches = crop_patches(fold_time(clip), corners, self.config.patch)
        return patches.unflatten(0, (len(clip), frames)).transpose(1, 2)

    def patch_features(self, clip: Tensor) -> Tensor:
        """f_L and its pool, (B, T', F). clip: (B, 3, T', h, w), of patches or of whole frames."""
        maps = self.local(fold_time(clip), clip.shape[2])
        return self.pool(maps).unflatten(0, (clip.shape[0], clip.shape[2]))

    def pool(self, maps: Tensor) -> Tensor:
        """Over space: (.., C, h, w) to (.., C)."""
        return pool_space(maps, self.config.pool)


def spread_over(frames: int, wanted: int) -> list[int]:
    """The middles of `wanted` equal parts of a clip of `frames` frames."""
    return [int((i + 0.5) * frames / wanted) for i in range(wanted)]
