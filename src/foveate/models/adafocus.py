"""AdaFocus: glance at every whole frame, then look closely at one small patch of it.

A cheap network f_G sees the frames, a recurrent policy pi picks a patch in each, a strong network f_L looks
at the patch alone, and a recurrent classifier f_C reads both and answers after every frame (Wang et al.,
"Adaptive Focus for Efficient Video Recognition", ICCV 2021, section 3). AdaFocus+ adds a second policy that
leaves f_L out of frames that do not need it; no code of it was released, so it is built from the paper's
words. Where this code differs: the policy sees glances only, so a clip takes three batched calls instead of
a loop over frames; skipped frames are not computed; reading can stop once the answer is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from foveate.backbones.build import STRIDES, Backbone2D, FrameNet, Stem, build_backbone, map_side
from foveate.backbones.resnet2d import Strides
from foveate.backbones.slots import Temporal, temporal_slot
from foveate.clip import ClipSpec
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.fold import fold_time
from foveate.layers.patch import crop_patches, grid_corners, random_corners
from foveate.layers.policy import RecurrentPolicy
from foveate.layers.steps import MeanClassifier, RecurrentClassifier
from foveate.models.early_exit import check_exits, read_until_sure
from foveate.models.focus import FocusModel, FocusTrace, Order

Where = Literal["learned", "centre", "random"]


@dataclass(frozen=True)
class AdaFocusConfig:
    glance: Backbone2D = "mobilenetv2"  # f_G
    local: Backbone2D = "resnet50"  # f_L
    num_classes: int = 200
    frames: int = 16  # T
    size: int = 224  # S, side of the frame that patches are cut from, pixels
    resize: int = 256  # short side before the test crop, pixels
    glance_size: int = 224  # G, side of the frame that f_G sees, pixels
    patch: int = 128  # P, side of a patch, pixels
    grid: int = 7  # n, the policy chooses among n x n positions
    policy: Where = "learned"  # the others are what it must beat; a random patch differs at every call
    skip: bool = False  # AdaFocus+: a second policy leaves f_L out of some frames
    skip_threshold: float = 0.5  # probability from which f_L runs; higher is cheaper
    exits: tuple[float, ...] = ()  # probability of the best class at which reading stops; none: read all
    classifier: Literal["gru", "mean"] = "gru"  # f_C
    policy_squeeze: int = 32  # channels of the policy's 1x1 convolution
    policy_width: int = 1024  # of its GRU
    classifier_width: int = 1024  # of f_C's GRU
    dropout: float = 0.5  # in front of f_C's linear layer
    order: Order = "time"  # in which frames are read
    pool: Literal["average", "max"] = "average"  # over space, of both networks' maps
    glance_width: float = 1.0  # multiplier of the channels
    local_width: float = 1.0
    glance_stem: Stem = "large"  # of a ResNet: small for images of 48 to 112 pixels
    local_stem: Stem = "large"
    glance_strides: Strides = STRIDES  # of a ResNet's stages: smaller ones keep small things apart
    glance_temporal: Temporal = "none"  # what lets the glances at a clip see each other
    glance_aggregation: AggregationConfig = TAM  # how, if glance_temporal says so

    def __post_init__(self) -> None:
        check_sizes(self.size, self.resize, self.glance_size, self.patch)
        check_exits(self.exits, self.frames)
        if self.grid < 2:
            raise ValueError(f"a grid of {self.grid} x {self.grid} positions leaves nothing to choose")
        if self.grid > self.size - self.patch + 1 > 1:
            room = self.size - self.patch
            raise ValueError(f"a grid of {self.grid} does not fit: a patch can move by {room} pixels only")
        if self.glance_temporal != "none" and (self.exits or self.order != "time"):
            raise ValueError(
                "glances that see each other need all frames in the order of time, without exits"
            )
        if self.skip and self.policy != "learned":
            raise ValueError("skip needs the learned policy")

    def build(self) -> AdaFocus:
        """The untrained model."""
        slot = temporal_slot(self.glance_temporal, self.glance, aggregation=self.glance_aggregation)
        glance = build_backbone(
            self.glance, self.glance_width, self.glance_stem, slot, strides=self.glance_strides
        )
        local = build_backbone(self.local, self.local_width, self.local_stem)
        side = map_side(self.glance_size, self.glance_stem, self.glance_strides)
        size = (glance.channels, side, self.policy_squeeze, self.policy_width)
        policy = RecurrentPolicy(*size, actions=self.grid**2) if self.policy == "learned" else None
        skip = RecurrentPolicy(*size, actions=1) if self.skip else None
        features = glance.channels + local.channels
        classifier: RecurrentClassifier | MeanClassifier
        if self.classifier == "gru":
            width = self.classifier_width
            classifier = RecurrentClassifier(features, self.num_classes, width, self.dropout)
        else:
            classifier = MeanClassifier(features, self.num_classes, self.dropout)
        spec = focus_spec(self.frames, self.size, self.resize, glance)
        return AdaFocus(glance, policy, local, classifier, skip, spec, self)


class AdaFocus(FocusModel):
    """Glance, policy, local network, classifier; with a skip policy, AdaFocus+."""

    config: AdaFocusConfig

    def __init__(
        self,
        glance: FrameNet,
        policy: RecurrentPolicy | None,
        local: FrameNet,
        classifier: RecurrentClassifier | MeanClassifier,
        skip_policy: RecurrentPolicy | None,
        spec: ClipSpec,
        config: AdaFocusConfig,
    ) -> None:
        super().__init__(glance, local, classifier, spec, config)
        self.policy = policy
        self.skip_policy = skip_policy
        self.dynamic = self.skips or bool(config.exits)

    @property
    def skips(self) -> bool:
        return self.skip_policy is not None

    def trace(self, clip: Tensor) -> FocusTrace:
        """The answer after every frame, where the model looked and where not. clip: (B, 3, T, S, S)."""
        clip, order = self.in_order(clip)
        if self.config.exits and not self.training:
            return read_until_sure(self.step, clip, order, self.config.exits)
        seen = self.glance_at(clip)
        corners = self.choose(seen.maps)
        looked = self.choose_frames(seen.maps)
        local = self.look_at(clip, corners, None if self.skip_policy is None else looked)
        step_logits, _ = self.classify(seen.features, local)
        steps = torch.full((len(clip),), clip.shape[2])
        return FocusTrace(step_logits[:, -1], step_logits, corners, self.config.patch, looked, order, steps)

    def choose(self, maps: Tensor) -> Tensor:
        """Corners (B, T, 2) of the patch in every frame, the most probable ones. maps: (B, T, C, h, w)."""
        return self._choose(maps, None)[0]

    def choose_frames(self, maps: Tensor) -> Tensor:
        """Whether each frame deserves a close look, (B, T) of True and False."""
        return self._choose_frames(maps, None)[0]

    def look_at(self, clip: Tensor, corners: Tensor, looked: Tensor | None = None) -> Tensor:
        """Features (B, T, F) of f_L on the patches; zeros where a frame is skipped, which costs nothing.

        clip: (B, 3, T, S, S). corners: (B, T, 2). looked: (B, T), None for all.
        """
        frames, places = fold_time(clip), corners.flatten(0, 1)
        if looked is None or bool(looked.all()):
            features = self.patch_features(crop_patches(frames, places, self.config.patch))
            return features.unflatten(0, corners.shape[:2])
        chosen = looked.flatten()
        features = frames.new_zeros(len(chosen), self.local.channels)
        if bool(chosen.any()):
            patches = crop_patches(frames[chosen], places[chosen], self.config.patch)
            features[chosen] = self.patch_features(patches).to(features.dtype)
        return features.unflatten(0, corners.shape[:2])

    def step(
        self, frame: Tensor, kept: Sequence[Tensor | None] = ()
    ) -> tuple[FocusTrace, list[Tensor | None]]:
        """One frame of a stream, and what to pass as `kept` with the next; equals the clip frame by frame.

        frame: (B, 3, S, S). kept: (1 or B, ...) states of the policies and the classifier. ValueError if the
        glance sees other frames.
        """
        if self.config.glance_temporal != "none":
            raise ValueError("glances that see each other cannot stream: use glance_temporal=none")
        policy_state, skip_state, class_state = kept or (None, None, None)
        clip = frame.unsqueeze(2)  # (B, 3, 1, S, S)
        seen = self.glance_at(clip)
        corners, policy_state = self._choose(seen.maps, policy_state)
        looked, skip_state = self._choose_frames(seen.maps, skip_state)
        local = self.look_at(clip, corners, None if self.skip_policy is None else looked)
        logits, class_state = self.classify(seen.features, local, class_state)
        steps = torch.ones(len(frame), dtype=torch.long)
        trace = FocusTrace(
            logits[:, -1], logits, corners, self.config.patch, looked, torch.zeros(1, dtype=torch.long), steps
        )
        return trace, [policy_state, skip_state, class_state]

    def _choose(self, maps: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        batch, frames = maps.shape[:2]
        if self.policy is not None:
            decision = self.policy(maps, state)
            corners = grid_corners(decision.logits.argmax(-1), self.config.grid, self.room)
            return corners, decision.state
        if self.config.policy == "centre":
            return torch.full((batch, frames, 2), self.room // 2, device=maps.device), None
        return random_corners(batch * frames, self.room).to(maps.device).unflatten(0, (batch, frames)), None

    def _choose_frames(self, maps: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.skip_policy is None:
            return torch.ones(maps.shape[:2], dtype=torch.bool, device=maps.device), None
        decision = self.skip_policy(maps, state)
        return decision.logits.squeeze(-1).sigmoid() > self.config.skip_threshold, decision.state


def check_sizes(size: int, resize: int, glance_size: int, patch: int) -> None:
    """ValueError unless patch and glance fit into the frame, and the frame into its source."""
    if min(patch, glance_size) < 1:
        raise ValueError(f"patch {patch} and glance_size {glance_size} must be at least one pixel")
    if patch > size:
        raise ValueError(f"a patch of {patch} pixels does not fit into a frame of {size}")
    if glance_size > size:
        raise ValueError(f"the glance, {glance_size} pixels, is larger than the frame, {size}")
    if resize < size:
        raise ValueError(f"resize {resize} is smaller than the crop, size {size}")


def focus_spec(frames: int, size: int, resize: int, glance: FrameNet) -> ClipSpec:
    """Uniform frames; short videos repeat their last one, as the released code does."""
    return ClipSpec(frames, size=size, resize=resize, mean=glance.mean, std=glance.std, short="repeat_last")
