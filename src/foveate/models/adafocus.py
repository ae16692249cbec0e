"""AdaFocus: glance at every whole frame, then look closely at one small patch of it.

A cheap network f_G sees the frames, a recurrent policy pi picks a patch in each, a strong network f_L looks
at the patch alone, and a recurrent classifier f_C reads both and answers after every frame (Wang et al.,
"Adaptive Focus for Efficient Video Recognition", ICCV 2021, section 3). AdaFocus+ adds a second policy that
leaves f_L out of frames that do not need it (section 3.4); it is built here from the paper's words, since no
code of it was released. Where this code differs: the policy sees only glances, so a clip is taken in three
batched calls instead of frame by frame; skipped frames are really not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.backbones.build import Backbone2D, FrameNet, Stem, build_backbone, map_side
from foveate.clip import ClipSpec
from foveate.layers.fold import fold_time
from foveate.layers.patch import crop_patches, grid_corners
from foveate.layers.policy import RecurrentPolicy
from foveate.layers.steps import MeanClassifier, RecurrentClassifier
from foveate.models.base import VideoModel
from foveate.models.order import coarse_to_fine


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
    skip: bool = False  # AdaFocus+: a second policy leaves f_L out of some frames
    classifier: Literal["gru", "mean"] = "gru"  # f_C
    policy_squeeze: int = 32  # channels of the policy's 1x1 convolution
    policy_width: int = 1024  # of its GRU
    classifier_width: int = 1024  # of f_C's GRU
    dropout: float = 0.5  # in front of f_C's linear layer
    order: Literal["time", "coarse_to_fine"] = "time"  # in which frames are read
    pool: Literal["average", "max"] = "average"  # over space, of both networks' maps
    glance_width: float = 1.0  # multipliers of the channels
    local_width: float = 1.0
    stem: Stem = "large"  # of ResNets: small for images of 48 to 112 pixels

    def __post_init__(self) -> None:
        if self.patch > self.size:
            raise ValueError(f"a patch of {self.patch} does not fit into a frame of {self.size} pixels")
        if self.grid < 2:
            raise ValueError(f"a grid of {self.grid} x {self.grid} leaves nothing to choose")
        if self.glance_size > self.size:
            raise ValueError(f"the glance, {self.glance_size} pixels, is larger than the frame, {self.size}")
        if self.resize < self.size:
            raise ValueError(f"resize {self.resize} is smaller than the crop, size {self.size}")

    def build(self) -> AdaFocus:
        """The untrained model."""
        glance = build_backbone(self.glance, self.glance_width, self._stem(self.glance))
        local = build_backbone(self.local, self.local_width, self._stem(self.local))
        side = map_side(self.glance_size, self._stem(self.glance))
        policy = RecurrentPolicy(
            glance.channels, side, self.grid**2, self.policy_squeeze, self.policy_width
        )
        skip = RecurrentPolicy(glance.channels, side, 1, self.policy_squeeze, self.policy_width)
        features = glance.channels + local.channels
        classifier: RecurrentClassifier | MeanClassifier
        if self.classifier == "gru":
            classifier = RecurrentClassifier(
                features, self.num_classes, self.classifier_width, self.dropout
            )
        else:
            classifier = MeanClassifier(features, self.num_classes, self.dropout)
        spec = ClipSpec(
            self.frames, size=self.size, resize=self.resize, mean=glance.mean, std=glance.std, short="repeat_last"
        )
        return AdaFocus(glance, policy, local, classifier, skip if self.skip else None, spec, self)

    def _stem(self, backbone: Backbone2D) -> Stem:
        return self.stem if backbone.startswith("resnet") else "large"


class Glance(NamedTuple):
    """What f_G found. maps: (B, T, C, h, w). features: (B, T, C), pooled over space."""

    maps: Tensor
    features: Tensor


@dataclass(frozen=True)
class FocusTrace:
    """Where the model looked and what it said, frame by frame, in the order of the clip.

    logits: (B, classes). step_logits: (B, T, classes), after each frame in the order read. corners:
    (B, T, 2), row and column of the patch in pixels of the clip. patch: its side. looked: (B, T), whether
    the local network ran. order: (T,), the place in the clip of each frame read.
    """

    logits: Tensor
    step_logits: Tensor
    corners: Tensor
    patch: int
    looked: Tensor
    order: Tensor


class AdaFocus(VideoModel):
    """Glance, policy, local network and classifier; any network with maps can be glance or local."""

    def __init__(
        self,
        glance: FrameNet,
        policy: RecurrentPolicy,
        local: FrameNet,
        classifier: RecurrentClassifier | MeanClassifier,
        skip_policy: RecurrentPolicy | None,
        spec: ClipSpec,
        config: AdaFocusConfig,
    ) -> None:
        super().__init__()
        self.glance = glance
        self.policy = policy
        self.local = local
        self.classifier = classifier
        self.skip_policy = skip_policy
        self.glance_head = nn.Linear(glance.channels, config.num_classes)  # of stage 0
        self.local_head = nn.Linear(local.channels, config.num_classes)
        self.spec = spec
        self.config = config
        self.dynamic = skip_policy is not None
        self.skip_threshold = 0.5  # probability of looking from which f_L runs; higher is cheaper

    @property
    def num_classes(self) -> int:
        return self.glance_head.out_features

    @property
    def room(self) -> int:
        """S - P, pixels that a patch can move."""
        return self.config.size - self.config.patch

    def reset_head(self, num_classes: int) -> None:
        self.glance_head = nn.Linear(self.glance_head.in_features, num_classes)
        self.local_head = nn.Linear(self.local_head.in_features, num_classes)
        self.classifier.reset(num_classes)
        self.config = replace(self.config, num_classes=num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, S, S). Returns the logits after the last frame, (B, classes)."""
        return self.trace(clip).logits

    def trace(self, clip: Tensor) -> FocusTrace:
        """The prediction after every frame, where the model looked and where it did not. clip as in forward."""
        order = self.reading_order(clip.shape[2], clip.device)
        clip = clip[:, :, order] if self.config.order != "time" else clip
        seen = self.glance_at(clip)
        corners = self.choose(seen.maps)
        looked = self.choose_frames(seen.maps)
        local = self.look_at(clip, corners, looked)
        step_logits, _ = self.classify(seen.features, local)
        return FocusTrace(step_logits[:, -1], step_logits, corners, self.config.patch, looked, order)

    def reading_order(self, frames: int, device: torch.device) -> Tensor:
        """The place in the clip of each frame read, (T,)."""
        order = coarse_to_fine(frames) if self.config.order == "coarse_to_fine" else range(frames)
        return torch.tensor(list(order), device=device)

    def glance_at(self, clip: Tensor) -> Glance:
        """Run f_G on all frames, shrunk to the glance size. clip: (B, 3, T, S, S)."""
        frames = shrink(fold_time(clip), self.config.glance_size)  # (B*T, 3, G, G)
        maps = self.glance(frames, clip.shape[2])  # (B*T, C, h, w)
        split = (clip.shape[0], clip.shape[2])
        return Glance(maps.unflatten(0, split), self.pool(maps).unflatten(0, split))

    def choose(self, maps: Tensor) -> Tensor:
        """The most probable position of every frame as corners (B, T, 2). maps: (B, T, C, h, w)."""
        return grid_corners(self.policy(maps).logits.argmax(-1), self.config.grid, self.room)

    def choose_frames(self, maps: Tensor) -> Tensor:
        """Whether each frame deserves a close look, (B, T) of True and False."""
        if self.skip_policy is None:
            return torch.ones(maps.shape[:2], dtype=torch.bool, device=maps.device)
        return self.skip_policy(maps).logits.squeeze(-1).sigmoid() > self.skip_threshold

    def look_at(self, clip: Tensor, corners: Tensor, looked: Tensor | None = None) -> Tensor:
        """Features (B, T, F) of f_L on the patches; zeros where a frame is skipped, which costs nothing.

        clip: (B, 3, T, S, S). corners: (B, T, 2). looked: (B, T), None for all.
        """
        frames, places = fold_time(clip), corners.flatten(0, 1)
        if looked is None or bool(looked.all()):
            return self.patch_features(crop_patches(frames, places, self.config.patch)).unflatten(
                0, corners.shape[:2]
            )
        chosen = looked.flatten()
        features = frames.new_zeros(len(chosen), self.local.channels)
        if bool(chosen.any()):
            patches = crop_patches(frames[chosen], places[chosen], self.config.patch)
            features[chosen] = self.patch_features(patches).to(features.dtype)
        return features.unflatten(0, corners.shape[:2])

    def patch_features(self, patches: Tensor) -> Tensor:
        """f_L and its pool. patches: (N, 3, P, P). Returns (N, F)."""
        return self.pool(self.local(patches, 1))

    def pool(self, maps: Tensor) -> Tensor:
        """Over space: (N, C, h, w) to (N, C)."""
        return maps.mean((2, 3)) if self.config.pool == "average" else maps.amax((2, 3))

    def classify(self, seen: Tensor, local: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f_C on [glance, local] features, (B, T, C) and (B, T, F). Returns logits (B, T, classes) and state."""
        return self.classifier(torch.cat([seen, local], dim=-1), state)

    def step(self, frame: Tensor, kept: Sequence[Tensor | None] = ()) -> tuple[FocusTrace, list[Tensor | None]]:
        """One frame of a stream and what to pass as `kept` with the next one; equals the clip, frame by frame.

        frame: (B, 3, S, S).
        """
        policy_state, skip_state, class_state = kept or (None, None, None)
        clip = frame.unsqueeze(2)  # (B, 3, 1, S, S)
        seen = self.glance_at(clip)
        decision = self.policy(seen.maps, policy_state)
        corners = grid_corners(decision.logits.argmax(-1), self.config.grid, self.room)
        looked = torch.ones(corners.shape[:2], dtype=torch.bool, device=frame.device)
        if self.skip_policy is not None:
            skip = self.skip_policy(seen.maps, skip_state)
            looked, skip_state = skip.logits.squeeze(-1).sigmoid() > self.skip_threshold, skip.state
        local = self.look_at(clip, corners, looked)
        logits, class_state = self.classify(seen.features, local, class_state)
        order = torch.zeros(1, dtype=torch.long)
        trace = FocusTrace(logits[:, -1], logits, corners, self.config.patch, looked, order)
        return trace, [decision.state, skip_state, class_state]


def shrink(images: Tensor, size: int) -> Tensor:
    """Resize (N, 3, S, S) to (N, 3, size, size) by averaging; unchanged at the same size.

    The released code takes the nearest pixel; averaging is kinder to small things, and no released model
    shrinks its glance.
    """
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
