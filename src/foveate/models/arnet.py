"""AR-Net: read each frame at the smallest size that will do, or skip it.

A small network looks at each frame, an LSTM decides from that whether a large network reads it at full size,
a smaller one at a smaller size, the glance itself suffices, or the next frames are skipped altogether (Meng
et al., "AR-Net: Adaptive Frame Resolution for Efficient Action Recognition", ECCV 2020). Where this code
differs: the release runs every network on every frame and masks the results, here a network runs on the
frames that were chosen for it, those of all videos of a batch together, and skipped frames are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.backbones.build import Backbone2D, Stem, build_backbone
from foveate.clip import ClipSpec
from foveate.layers.fold import fold_time
from foveate.layers.pool import pool_space
from foveate.layers.resolution import PolicyState, ResolutionPolicy
from foveate.layers.shrink import shrink
from foveate.models.base import ModelOutput, VideoModel

FramesAt = Callable[[int, Tensor], Tensor]
"""(number of a size, places (n,) among the B*T frames) -> these frames at that size, (n, 3, s, s)."""


@dataclass(frozen=True)
class ARNetConfig:
    nets: tuple[Backbone2D, ...] = ("resnet50", "resnet34", "resnet18")  # from the dearest to the cheapest
    sizes: tuple[int, ...] = (224, 168, 112)  # of the frames that they read, pixels
    glance: Backbone2D = "mobilenetv2"  # what the policy looks through; its answer is a choice as well
    glance_size: int = 84  # pixels
    skips: tuple[int, ...] = (1, 2, 4)  # frames that one decision can leave out
    num_classes: int = 200
    frames: int = 16  # T
    resize: int = 256  # short side before the test crop, pixels
    policy_width: int = 512  # of the LSTM
    remember_skipped: bool = False  # skipped frames are looked at and change the LSTM's cell, as released
    shrink: Literal["nearest", "average"] = "nearest"  # pixels of the smaller frames; nearest is as released
    pool: Literal["average", "max"] = "average"  # over space
    dropout: float = 0.5  # in front of the classifiers of `nets`, and of the LSTM
    widths: tuple[float, ...] = (1.0, 1.0, 1.0)  # multipliers of the channels of `nets`
    glance_width: float = 1.0
    stem: Stem = "large"  # of ResNets: small for images of 48 to 112 pixels

    def __post_init__(self) -> None:
        if not len(self.nets) == len(self.sizes) == len(self.widths) > 0:
            raise ValueError(
                f"{len(self.nets)} nets, {len(self.sizes)} sizes and {len(self.widths)} widths do not match"
            )
        if min(*self.sizes, self.glance_size) < 1:
            raise ValueError(
                f"sizes {list(self.sizes)} and glance_size {self.glance_size}: none is below 1 pixel"
            )
        if max(*self.sizes, self.glance_size) > self.sizes[0]:
            raise ValueError(f"a size is larger than the first one, {self.sizes[0]}")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout is {self.dropout}; it is a share, 0 to 1")
        if min(self.skips, default=1) < 1:
            raise ValueError("a skip leaves out at least 1 frame")

    def build(self) -> ARNet:
        """The untrained model."""
        nets = [build_backbone(n, w, self._stem(n)) for n, w in zip(self.nets, self.widths, strict=True)]
        glance = build_backbone(self.glance, self.glance_width, self._stem(self.glance))
        policy = ResolutionPolicy(
            glance.channels, self.policy_width, len(nets) + 1, self.skips, self.remember_skipped
        )
        spec = ClipSpec(
            self.frames,
            size=self.sizes[0],
            resize=self.resize,
            mean=glance.mean,
            std=glance.std,
            short="repeat_last",
        )
        return ARNet(nets, glance, policy, spec, self)

    def _stem(self, backbone: Backbone2D) -> Stem:
        return self.stem if backbone.startswith("resnet") else "large"


@dataclass(frozen=True)
class Readings:
    """What became of B x T frames: frame_logits (B, T, classes), zeros where a frame was skipped.

    actions: (B, T), number of the size, or beyond the sizes that of the skip. glanced: (B, T), whether the
    policy looked. hidden: (B, T, width), the state of the policy at each frame.
    """

    frame_logits: Tensor
    actions: Tensor
    glanced: Tensor
    hidden: Tensor


class ARNet(VideoModel):
    """A glance, a policy, and one network for each larger size, each with a classifier of its own."""

    config: ARNetConfig
    dynamic = True
    resizable = False  # it chooses among sizes of its own
    parts = ("glance_features", "decide", "answer_at")
    reports = ("frame_logits", "sizes")
    head_names = ("heads.", "policy_head.")

    def __init__(
        self,
        nets: Sequence[Any],
        glance: Any,
        policy: ResolutionPolicy,
        spec: ClipSpec,
        config: ARNetConfig,
    ) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.glance = glance
        self.policy = policy
        self.spec = spec
        self.config = config
        self.reset_head(config.num_classes)

    @property
    def num_classes(self) -> int:
        return self.policy_head.out_features

    def reset_head(self, num_classes: int) -> None:
        channels = [cast(Any, net).channels for net in self.nets]
        self.heads = nn.ModuleList(nn.Linear(count, num_classes) for count in channels)
        self.policy_head = nn.Linear(self.config.policy_width, num_classes)
        for head in (*self.heads, self.policy_head):
            nn.init.normal_(head.weight, std=0.001)
            nn.init.zeros_(head.bias)
        self.config = replace(self.config, num_classes=num_classes)

    def output(self, clip: Tensor) -> ModelOutput:
        """The answer of the most probable decisions, and how each frame was read. clip: (B, 3, T, S, S)."""
        return self.output_of(self.read_frames(self.resized(clip), clip.shape[0], clip.shape[2]))

    def output_of(self, readings: Readings) -> ModelOutput:
        """The mean of the logits over the frames that were read, and what was decided."""
        sides = torch.tensor([*self.config.sizes, self.config.glance_size] + [0] * len(self.config.skips))
        actions, glanced = readings.actions.cpu(), readings.glanced.cpu()
        sizes = sides[actions]
        count = (sizes > 0).sum(1, keepdim=True).clamp(min=1).to(readings.frame_logits.device)
        return ModelOutput(
            logits=readings.frame_logits.sum(1) / count,
            frames_read=glanced,  # the glance comes before every network
            macs=None if self.training else self._macs(actions, glanced),
            features=readings.hidden.mean(1),
            frame_logits=readings.frame_logits,
            sizes=sizes,
        )

    def _macs(self, actions: Tensor, glanced: Tensor) -> Tensor:
        """Multiply-adds of each clip, (B,): the glance where it looked, and the network of each frame."""
        prices = [
            self.part_macs("answer_at", size, *self._shapes(size)) for size in range(len(self.nets) + 1)
        ]
        price = torch.tensor([*prices, *(0 for _ in self.config.skips)])
        seeing = self.part_macs("glance_features", self._shapes(len(self.nets))[0])
        rows = torch.zeros(1, dtype=torch.int64)
        deciding = self.part_macs("decide", torch.empty(1, self.glance.channels), rows, self.policy.start(1))
        return price[actions].sum(1) + (seeing + deciding) * glanced.sum(1)

    def _shapes(self, size: int) -> tuple[Tensor, Tensor]:
        """Tensors of the shapes that one frame at one size and its hidden state have."""
        side = (*self.config.sizes, self.config.glance_size)[size]
        return torch.empty(1, 3, side, side), torch.empty(1, self.config.policy_width)

    def resized(self, clip: Tensor) -> FramesAt:
        """Frames of a clip (B, 3, T, S, S) at any of the sizes; only those that are asked for are made."""
        return partial(self._resize, fold_time(clip))

    def read_frames(self, frames_at: FramesAt, batch: int, frames: int) -> Readings:
        """Decide on `batch` x `frames` frames that can be had in all sizes, and read each as decided."""
        actions, hidden, glanced = self._decide(frames_at, batch, frames)
        flat = actions.flatten()
        frame_logits = hidden.new_zeros(len(flat), self.num_classes)
        for size in range(len(self.nets) + 1):
            chosen = (flat == size).nonzero().squeeze(1)
            if len(chosen):
                said = self._classify(size, frames_at, chosen, hidden)
                frame_logits = frame_logits.index_copy(0, chosen, said.to(frame_logits.dtype))
        rows = (batch, frames)
        return Readings(frame_logits.unflatten(0, rows), actions, glanced, hidden.unflatten(0, rows))

    def branches(
        self, frames_at: FramesAt, batch: int, frames: int, temperature: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """What training needs: every answer to every frame, and drawn decisions that carry a gradient.

        temperature: of the draw; None takes the most probable. Returns logits (B, sizes, T, classes) and
        one-hot actions (B, T, A).
        """
        places = torch.arange(batch * frames, device=self.policy_head.weight.device)
        features = self._glance(frames_at, places).unflatten(0, (batch, frames))
        state, rows = self.policy.start(batch), torch.arange(batch, device=places.device)
        hidden, actions = [], []
        for t in range(frames):
            seen, state = self.decide(features[:, t], rows, state, temperature)
            hidden.append(seen)
            actions.append(state.action)
        at = torch.stack(hidden, 1).flatten(0, 1)  # (B*T, width)
        said = [self._classify(size, frames_at, places, at) for size in range(len(self.nets) + 1)]
        return torch.stack([s.unflatten(0, (batch, frames)) for s in said], 1), torch.stack(actions, 1)

    def _decide(self, frames_at: FramesAt, batch: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B, T), the policy's hidden states (B*T, width), and which frames it looked at, (B, T)."""
        state = self.policy.start(batch)
        actions, hidden, glanced = [], [], []
        for t in range(frames):
            look = torch.ones_like(state.wait, dtype=torch.bool)
            if not self.config.remember_skipped:
                look = state.wait == 0
            rows = look.nonzero().squeeze(1)
            if len(rows):
                _, state = self.decide(self._glance(frames_at, rows * frames + t), rows, state)
            state = state._replace(wait=torch.where(look, state.wait, state.wait - 1))
            actions.append(state.action.argmax(1))
            hidden.append(state.hidden)
            glanced.append(look)
        return torch.stack(actions, 1), torch.stack(hidden, 1).flatten(0, 1), torch.stack(glanced, 1)

    def glance_features(self, images: Tensor) -> Tensor:
        """What the glance finds, (n, C). images: (n, 3, s, s) at the glance's size."""
        return self._features(self.glance, images)

    def decide(
        self, features: Tensor, rows: Tensor, state: PolicyState, temperature: float | None = None
    ) -> tuple[Tensor, PolicyState]:
        """One step of the policy for the videos `rows`; see `ResolutionPolicy`."""
        step: tuple[Tensor, PolicyState] = self.policy(features, rows, state, temperature)
        return step

    def answer_at(self, size: int, images: Tensor, hidden: Tensor) -> Tensor:
        """Logits (n, classes) of some frames (n, 3, s, s) at one size, or of the policy's hidden states."""
        if size == len(self.nets):
            return cast(Tensor, self.policy_head(hidden))
        return cast(Tensor, self.heads[size](self._features(self.nets[size], images)))

    def _glance(self, frames_at: FramesAt, places: Tensor) -> Tensor:
        return self.glance_features(frames_at(len(self.nets), places))

    def _classify(self, size: int, frames_at: FramesAt, places: Tensor, hidden: Tensor) -> Tensor:
        """Logits (n, classes) of some frames at one size; hidden: of all frames."""
        if size == len(self.nets):
            return self.answer_at(size, hidden, hidden[places])  # which reads no pixels
        return self.answer_at(size, frames_at(size, places), hidden)

    def _features(self, net: nn.Module, images: Tensor) -> Tensor:
        maps = net(images)
        pooled = pool_space(maps, self.config.pool)
        return F.dropout(pooled, self.config.dropout, net.training)  # none in a part that does not learn

    def _resize(self, frames: Tensor, size: int, places: Tensor) -> Tensor:
        side = (*self.config.sizes, self.config.glance_size)[size]
        chosen = frames[places]
        if self.config.shrink == "average" or chosen.shape[-1] == side:
            return shrink(chosen, side)
        return F.interpolate(chosen, (side, side))


def fuse(actions: Tensor, logits: Tensor) -> Tensor:
    """The chosen answers, averaged over the frames that were read, (B, classes).

    actions: (B, T, A), one-hot. logits: (B, sizes, T, classes).
    """
    chosen = actions[..., : logits.shape[1]]  # (B, T, sizes)
    count = chosen.sum((1, 2)).clamp(min=1)
    return torch.einsum("bts,bstc->bc", chosen, logits) / count.unsqueeze(1)
