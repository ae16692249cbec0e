"""What a model of the AdaFocus family finds in frames, and remembers of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from foveate.models.base import rows_at_once


class Glance(NamedTuple):
    """What f_G found. maps: (B, T, C, h, w). features: (B, T, C), pooled over space."""

    maps: Tensor
    features: Tensor


def joined(glances: Sequence[Glance], dim: int) -> Glance:
    """Glances at other clips (dim 0), or at later frames of the same ones (dim 1), in one."""
    return Glance(*(torch.cat(fields, dim) for fields in zip(*glances, strict=True)))


def glance_in_turn(
    glance_at: Callable[[Tensor], Glance], clip: Tensor, pixels: int, alone: bool, training: bool
) -> Glance:
    """`glance_at` of a clip (B, 3, T, S, S), as many images of `pixels` at a time as `rows_at_once` says.

    alone: whether a frame is seen without the others of its clip, so that a clip may be taken apart.
    """
    frames = clip.shape[2]
    images = clip[:, 0].flatten(0, 1)  # whose number and place count
    most = rows_at_once(images, pixels, training)
    clips = clip.split(max(1, most // frames))
    if most >= frames or not alone:
        return joined([glance_at(piece) for piece in clips], 0)
    turns = -(-frames // most)
    pieces = [[glance_at(piece) for piece in one.chunk(turns, 2)] for one in clips]
    return joined([joined(glances, 1) for glances in pieces], 0)


class FocusFeatures(Protocol):
    """What both networks find in B stretches of T frames, computed when it is asked for."""

    def glance(self) -> Glance:
        """What f_G finds in all frames."""
        ...

    def local(self, corners: Tensor, looked: Tensor | None = None) -> Tensor:
        """What f_L finds in the patches at corners (B, T, 2): (B, T, F), zeros where not `looked` (B, T)."""
        ...

    def random_corners(self) -> Tensor:
        """Corners (B, T, 2) drawn from all that `local` can be asked for."""
        ...


@dataclass(frozen=True)
class FocusState:
    """What a model remembers of the frames so far, each (B, ...); None: nothing yet."""

    policy: Tensor | None = None
    skip_policy: Tensor | None = None
    classifier: Tensor | None = None
    frames: int = 0

    def of(self, videos: Tensor) -> FocusState:
        """That of some of the videos, chosen by a mask (B,)."""
        policy, skip, answer = (
            None if state is None else state[videos]
            for state in (self.policy, self.skip_policy, self.classifier)
        )
        return FocusState(policy, skip, answer, self.frames)


@dataclass(frozen=True)
class FocusPass:
    """What happened in a stretch of T frames, in the order read."""

    step_logits: Tensor  # (B, T, classes), the answer after each frame
    corners: Tensor  # (B, T, 2), row and column of the patch in pixels of the clip
    looked: Tensor | None  # (B, T), whether f_L saw the patch; None: all
    glance: Glance
    local: Tensor  # (B, T, F), what f_L found; zeros where it did not look
    state: FocusState  # to go on from

    @property
    def features(self) -> Tensor:
        """What the classifier reads of each frame, (B, T, C + F)."""
        return torch.cat([self.glance.features, self.local], -1)
