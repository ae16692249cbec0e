"""AR-Net: process each frame at the lowest sufficient resolution, or skip it.

A small network (the glance) sees each frame, and an LSTM decides from its features whether a large network
processes the frame at full size, a smaller network does at a smaller size, the glance's own
answer is used, or the next frames are skipped (Meng et al., "AR-Net: Adaptive Frame Resolution for Efficient
Action Recognition", ECCV 2020). Differences from the release: it runs every network on every frame and masks
the results; here each network runs only on the frames chosen for it, batched over all videos, and skipped
frames are not processed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from foveate.models.base import ModelOutput, VideoModel, rows_at_once
from foveate.models.dials import PriceDial
from foveate.models.pieces import Pieces
from foveate.models.portable import resolution_pieces

FramesAt = Callable[[int, Tensor], Tensor]
"""A function (size index, indices (n,) into the B*T frames) -> these frames at that size, (n, 3, s, s)."""


@dataclass(frozen=True)
class ARNetConfig:
    """Configuration of AR-Net. A "size" is a side in pixels."""

    nets: tuple[Backbone2D, ...] = ("resnet50", "resnet34", "resnet18")  # one per size, most expensive first
    sizes: tuple[int, ...] = (224, 168, 112)  # of the frames that `nets` read, largest first, pixels
    glance: Backbone2D = "mobilenetv2"  # gives the policy's features; its own answer is a choice as well
    glance_size: int = 84  # pixels
    skips: tuple[int, ...] = (1, 2, 4)  # numbers of frames that one decision can skip
    num_classes: int = 200
    frames: int = 16  # T
    resize: int = 256  # short side to which frames are resized before the test crop, pixels
    policy_width: int = 512  # of the LSTM
    remember_skipped: bool = False  # skipped frames still update the LSTM's cell, as in the release
    shrink: Literal["nearest", "average"] = "nearest"  # how frames are resized; nearest as in the release
    pool: Literal["average", "max"] = "average"  # over space
    dropout: float = 0.5  # in front of the classifiers of `nets`, and of the LSTM
    widths: tuple[float, ...] = (1.0, 1.0, 1.0)  # multipliers of the channels of `nets`
    glance_width: float = 1.0
    stem: Stem = "large"  # of ResNets; small for images of 48 to 112 pixels

    def __post_init__(self) -> None:
        if not len(self.nets) == len(self.sizes) == len(self.widths) > 0:
            raise ValueError(
                f"{len(self.nets)} nets, {len(self.sizes)} sizes and {len(self.widths)} widths do not match"
            )
        if min(*self.sizes, self.glance_size) < 1:
            raise ValueError(
                f"sizes {list(self.sizes)} and glance_size {self.glance_size}: none may be below 1 pixel"
            )
        if max(*self.sizes, self.glance_size) > self.sizes[0]:
            raise ValueError(f"a size is larger than the first one, {self.sizes[0]}")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1]")
        if min(self.skips, default=1) < 1:
            raise ValueError("each of skips must be at least 1 frame")

    def build(self) -> ARNet:
        """Build the untrained model."""
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
class FrameResults:
    """Decisions and results for B x T frames.

    frame_logits: (B, T, classes), 0 for skipped frames. actions: (B, T) int64, index of the size (nets, then
    the glance), followed by those of the skips. glanced: (B, T) bool, whether glance and policy ran. hidden:
    (B, T, width), hidden state of the policy.
    """

    frame_logits: Tensor
    actions: Tensor
    glanced: Tensor
    hidden: Tensor


class ARNet(VideoModel):
    """A glance network, a policy, and one network with its own classifier for each size."""

    config: ARNetConfig
    dynamic = True
    resizable = False  # the configuration fixes its sizes
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

    def pieces(self) -> Pieces:
        """One step of glance and policy, and each network with its classifier, on single frames."""
        return resolution_pieces(self)

    def output(self, clip: Tensor) -> ModelOutput:
        """The output for the most probable decisions. clip: (B, 3, T, S, S)."""
        return self.output_of(self.read_frames(self.resized(clip), clip.shape[0], clip.shape[2]))

    def output_of(self, results: FrameResults) -> ModelOutput:
        """Logits averaged over the frames that were not skipped, and the decisions."""
        sides = torch.tensor([*self.config.sizes, self.config.glance_size] + [0] * len(self.config.skips))
        actions, glanced = results.actions.cpu(), results.glanced.cpu()
        sizes = sides[actions]
        count = (sizes > 0).sum(1, keepdim=True).clamp(min=1).to(results.frame_logits.device)
        return ModelOutput(
            logits=results.frame_logits.sum(1) / count,
            frames_read=glanced,  # no network runs on a frame without the glance
            macs=None if self.training else self._macs(actions, glanced),
            features=results.hidden.mean(1),
            frame_logits=results.frame_logits,
            sizes=sizes,
        )

    def _macs(self, actions: Tensor, glanced: Tensor) -> Tensor:
        """Multiply-adds of each clip, (B,): glance and policy where they ran, and the chosen networks."""
        price = torch.tensor([*self._action_macs(), *(0 for _ in self.config.skips)])
        glancing = self.part_macs("glance_features", self._shapes(len(self.nets))[0])
        rows = torch.zeros(1, dtype=torch.int64)
        deciding = self.part_macs("decide", torch.empty(1, self.glance.channels), rows, self.policy.start(1))
        return price[actions].sum(1) + (glancing + deciding) * glanced.sum(1)

    def _action_macs(self) -> list[int]:
        """Multiply-adds of an answer from each network, the glance's own last."""
        return [self.part_macs("answer_at", size, *self._shapes(size)) for size in range(len(self.nets) + 1)]

    @property
    def dial(self) -> PriceDial:
        """What the policy pays for the networks: the price of the dearest, of the others by multiply-adds."""
        return PriceDial()

    def _prices(self) -> Tensor | None:
        """What is subtracted from the log-probability of each action, (1, A); None without a price.

        A skip costs as much as the glance's own answer, or a high price would leave frames without any.
        """
        if self.setting is None or not self.setting[0]:
            return None
        macs = torch.tensor(self._action_macs(), dtype=torch.float32)
        shares = torch.cat([macs, macs[-1:].expand(len(self.config.skips))]) / macs.max()
        return (self.setting[0] * shares).unsqueeze(0)

    def _shapes(self, size: int) -> tuple[Tensor, Tensor]:
        """Empty tensors with the shapes of one frame at a size and of its hidden state."""
        side = (*self.config.sizes, self.config.glance_size)[size]
        return torch.empty(1, 3, side, side), torch.empty(1, self.config.policy_width)

    def resized(self, clip: Tensor) -> FramesAt:
        """A function that resizes chosen frames of a clip (B, 3, T, S, S) to one of the sizes."""
        frames = fold_time(clip)
        return lambda size, indices: self.at_size(frames[indices], size)

    def read_frames(self, frames_at: FramesAt, batch: int, frames: int) -> FrameResults:
        """Decide for `batch` x `frames` frames how to process them, and run the chosen networks."""
        actions, hidden, glanced = self._decide(frames_at, batch, frames)
        flat = actions.flatten()
        frame_logits = hidden.new_zeros(len(flat), self.num_classes)
        for size in range(len(self.nets) + 1):
            chosen = (flat == size).nonzero().squeeze(1)
            if len(chosen):
                logits = self._classify(size, frames_at, chosen, hidden)
                frame_logits = frame_logits.index_copy(0, chosen, logits.to(frame_logits.dtype))
        rows = (batch, frames)
        return FrameResults(frame_logits.unflatten(0, rows), actions, glanced, hidden.unflatten(0, rows))

    def branches(
        self, frames_at: FramesAt, batch: int, frames: int, temperature: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """For training: the logits of every network for every frame, and differentiable sampled actions.

        temperature: of Gumbel-Softmax; None takes the most probable action. Returns logits
        (B, sizes, T, classes) and one-hot actions (B, T, A).
        """
        indices = torch.arange(batch * frames, device=self.policy_head.weight.device)
        features = self._glance(frames_at, indices).unflatten(0, (batch, frames))
        state, rows = self.policy.start(batch), torch.arange(batch, device=indices.device)
        hidden, actions = [], []
        for t in range(frames):
            step, state = self.decide(features[:, t], rows, state, temperature)
            hidden.append(step)
            actions.append(state.action)
        flat_hidden = torch.stack(hidden, 1).flatten(0, 1)  # (B*T, width)
        logits = [self._classify(size, frames_at, indices, flat_hidden) for size in range(len(self.nets) + 1)]
        return torch.stack([x.unflatten(0, (batch, frames)) for x in logits], 1), torch.stack(actions, 1)

    def _decide(self, frames_at: FramesAt, batch: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B, T), the policy's hidden states (B*T, width), and the frames on which it ran, (B, T)."""
        state, prices = self.policy.start(batch), self._prices()
        actions, hidden, glanced = [], [], []
        for t in range(frames):
            look = torch.ones_like(state.wait, dtype=torch.bool)
            if not self.config.remember_skipped:
                look = state.wait == 0
            rows = look.nonzero().squeeze(1)
            if len(rows):
                features = self._glance(frames_at, rows * frames + t)
                if prices is None:  # a compiled part is called as ever
                    _, state = self.decide(features, rows, state)
                else:
                    own = prices.to(features).expand(len(rows), -1)
                    _, state = self.decide(features, rows, state, None, own)
            state = state._replace(wait=torch.where(look, state.wait, state.wait - 1))
            actions.append(state.action.argmax(1))
            hidden.append(state.hidden)
            glanced.append(look)
        return torch.stack(actions, 1), torch.stack(hidden, 1).flatten(0, 1), torch.stack(glanced, 1)

    def glance_features(self, images: Tensor) -> Tensor:
        """Pooled features of the glance, (n, C). images: (n, 3, s, s) at the glance's size."""
        return self._features(self.glance, images)

    def decide(
        self,
        features: Tensor,
        rows: Tensor,
        state: PolicyState,
        temperature: float | None = None,
        prices: Tensor | None = None,
    ) -> tuple[Tensor, PolicyState]:
        """One step of the policy for the videos `rows`; see `ResolutionPolicy.forward`."""
        step: tuple[Tensor, PolicyState] = self.policy(features, rows, state, temperature, prices)
        return step

    def answer_at(self, size: int, images: Tensor, hidden: Tensor) -> Tensor:
        """Logits (n, classes) from frames (n, 3, s, s), or hidden states (n, width) for the last size."""
        if size == len(self.nets):
            return cast(Tensor, self.policy_head(hidden))
        return cast(Tensor, self.heads[size](self._features(self.nets[size], images)))

    def _glance(self, frames_at: FramesAt, indices: Tensor) -> Tensor:
        return self.glance_features(frames_at(len(self.nets), indices))

    def _classify(self, size: int, frames_at: FramesAt, indices: Tensor, hidden: Tensor) -> Tensor:
        """Logits (n, classes) of the frames `indices` at a size. hidden: of all B*T frames."""
        if size == len(self.nets):
            return self.answer_at(size, hidden, hidden[indices])  # which needs no frames
        images = frames_at(size, indices)
        pieces = images.split(rows_at_once(images, images[:1, :1].numel(), self.training))
        return torch.cat([self.answer_at(size, piece, hidden) for piece in pieces])

    def _features(self, net: nn.Module, images: Tensor) -> Tensor:
        maps = net(images)
        pooled = pool_space(maps, self.config.pool)
        return F.dropout(pooled, self.config.dropout, net.training)  # off in a frozen network

    def at_size(self, frames: Tensor, size: int) -> Tensor:
        """Frames (n, 3, S, S) as the network of this size reads them, (n, 3, s, s)."""
        side = (*self.config.sizes, self.config.glance_size)[size]
        if self.config.shrink == "average" or frames.shape[-1] == side:
            return shrink(frames, side)
        return F.interpolate(frames, (side, side))


def fuse(actions: Tensor, logits: Tensor) -> Tensor:
    """Logits of the chosen networks, averaged over the frames that were not skipped, (B, classes).

    actions: (B, T, A), one-hot. logits: (B, sizes, T, classes).
    """
    chosen = actions[..., : logits.shape[1]]  # (B, T, sizes)
    count = chosen.sum((1, 2)).clamp(min=1)
    return torch.einsum("bts,bstc->bc", chosen, logits) / count.unsqueeze(1)
