"""What the AdaFocus family shares: a glance at frames, a closer look at one patch of each, an answer.

`FocusModel.focus` is the forward pass of all of it: whole clips, streams, early exits and every stage of
training call it and differ in what they pass, such as another rule where to look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate.backbones.build import FrameNet
from foveate.clip import ClipSpec
from foveate.layers.anytime import AnytimeClassifier
from foveate.layers.fold import fold_time
from foveate.layers.patch import crop_patches, random_corners
from foveate.layers.pool import pool_space
from foveate.layers.shrink import shrink
from foveate.models.adafocus.early_exit import NEVER, check_exits, hold_first_sure
from foveate.models.adafocus.portable import focus_pieces
from foveate.models.adafocus.seen import FocusFeatures, FocusPass, FocusState, Glance, glance_in_turn
from foveate.models.base import ModelOutput, VideoModel, rows_at_once
from foveate.models.dials import CountDial, ExitDial
from foveate.models.pieces import Pieces, not_portable

Order = Literal["time", "coarse_to_fine"]
Where = Literal["learned", "centre", "random"]

Place = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""(maps of the glance (B, T, C, h, w), state of the policy) -> (corners (B, T, 2), state)."""
Look = Callable[[Tensor, Tensor | None], tuple[Tensor | None, Tensor | None]]
"""(maps, state of the skip policy) -> (whether f_L sees each frame's patch, (B, T), None: all; state)."""


class FocusModel(VideoModel):
    """A glance network f_G, a policy, a local network f_L and a classifier that answers after every frame.

    Any network with maps can be f_G or f_L. The two linear heads read one network alone: they start its
    training (stage 0) or support it (AdaFocusV2's auxiliary losses).
    """

    resizable = False  # the networks behind the glance are made for its maps
    reports: tuple[str, ...] = ("step_logits", "steps", "step_macs", "boxes", "looked")
    glances_alone: bool = True  # f_G sees a frame without the others
    head_names: tuple[str, ...] = ("glance_head.", "local_head.", "classifier.linear.", "classifier.heads.")
    policy: Any  # None where the place of the patch is not learnt
    skip_policy: Any  # None where f_L sees every patch
    classifier: Any  # an AnytimeClassifier; None where the heads of both networks answer

    def __init__(
        self,
        glance: FrameNet,
        policy: nn.Module | None,
        local: FrameNet,
        classifier: AnytimeClassifier | None,
        skip_policy: nn.Module | None,
        spec: ClipSpec,
        config: Any,
    ) -> None:
        super().__init__()
        self.glance = glance
        self.policy = policy
        self.local = local
        self.classifier = classifier
        self.skip_policy = skip_policy
        self.glance_head = nn.Linear(glance.channels, config.num_classes)
        self.local_head = nn.Linear(local.channels, config.num_classes)
        self.spec = spec
        self.config = config
        learnt = ["policy"] * (policy is not None) + ["skip_policy"] * (skip_policy is not None)
        answering = "classify" if classifier is None else "accumulate"
        self.parts = ("glance_at", *learnt, "local_features", answering)
        self.streams = self.glances_alone and config.order == "time"
        self.stretch = config.frames

    @property
    def num_classes(self) -> int:
        return self.local_head.out_features

    @property
    def dynamic(self) -> bool:  # type: ignore[override]
        return self.skip_policy is not None or bool(self.exits)

    @property
    def dial(self) -> ExitDial | CountDial | None:
        """Where reading stops; nothing to set where the glances at a clip need each other."""
        frames = self.spec.frames
        return ExitDial(frames, self.config.exit_group) if self.glances_alone and frames > 1 else None

    @property
    def exits(self) -> tuple[float, ...]:
        """Probability of the best class at which reading stops, after each frame; empty: never."""
        thresholds: tuple[float, ...] = self.config.exits if self.setting is None else self.setting
        return thresholds if min(thresholds[:-1], default=NEVER) < NEVER else ()

    @property
    def answers_after(self) -> tuple[int, ...]:
        return tuple(range(1, self.spec.frames + 1))

    def set_exits(self, exits: tuple[float, ...]) -> None:
        """Stop reading at these probabilities of the best class, one for each frame; none: read all.

        How many frames are read between two decisions is `exit_group` of the configuration.
        """
        self.config = replace(self.config, exits=exits)

    def reset_head(self, num_classes: int) -> None:
        self.glance_head = nn.Linear(self.glance_head.in_features, num_classes)
        self.local_head = nn.Linear(self.local_head.in_features, num_classes)
        if self.classifier is not None:
            self.classifier.reset(num_classes)
        self.config = replace(self.config, num_classes=num_classes)

    # ---- the forward pass, and what it is made of

    def focus(
        self,
        features: FocusFeatures,
        state: FocusState | None = None,
        place: Place | None = None,
        look: Look | None = None,
    ) -> FocusPass:
        """Glance, policy, local network and classifier over a stretch of frames.

        state: of the frames before it. place, look: where the patch lies and whether f_L sees it, in place of
        the model's own `choose_place` and `choose_look`.
        """
        state = state or FocusState()
        glance = features.glance()
        corners, policy = (place or self.choose_place)(glance.maps, state.policy)
        looked, skip_policy = (look or self.choose_look)(glance.maps, state.skip_policy)
        local = features.local(corners, looked)
        step_logits, classifier = self.classify(glance.features, local, state.classifier, state.frames)
        frames = state.frames + glance.maps.shape[1]
        state = FocusState(policy, skip_policy, classifier, frames)
        return FocusPass(step_logits, corners, looked, glance, local, state)

    def glance_at(self, clip: Tensor) -> Glance:
        """Run f_G on all frames, shrunk to the glance size. clip: (B, 3, T, S, S)."""
        frames = self.shrink(fold_time(clip))
        maps = self.glance(frames, clip.shape[2])  # (B*T, C, h, w)
        split = (clip.shape[0], clip.shape[2])
        return Glance(maps.unflatten(0, split), self.pool(maps).unflatten(0, split))

    def shrink(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) as f_G sees them, (N, 3, G, G)."""
        return shrink(images, self.config.glance_size)

    def choose_place(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Corners of the patches by the policy, and its state; see `Place`."""
        raise TypeError(f"{type(self).__name__} does not say where to look")

    def choose_look(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """Whether f_L sees the patches, and the state of the skip policy; see `Look`."""
        return None, None

    def look_at(self, clip: Tensor, corners: Tensor, looked: Tensor | None = None) -> Tensor:
        """Features (B, T, F) of f_L on the patches; zeros where it does not look, which costs nothing.

        clip: (B, 3, T, S, S). corners: (B, T, 2), or (B, 1, 2) for all frames. looked: (B, T), None for all.
        """
        batch, frames = clip.shape[0], clip.shape[2]
        images, places = fold_time(clip), corners.expand(batch, frames, 2).flatten(0, 1)
        if looked is None or bool(looked.all()):
            return self._look(self.cut(images, places), frames).unflatten(0, (batch, frames))
        chosen = looked.flatten()
        features = images.new_zeros(len(chosen), self.local.channels)
        if bool(chosen.any()):
            patches = self.cut(images[chosen], places[chosen])
            features[chosen] = self._look(patches, frames).to(features.dtype)
        return features.unflatten(0, (batch, frames))

    def _look(self, patches: Tensor, frames: int) -> Tensor:
        """`local_features`, some clips at a time."""
        clips = rows_at_once(patches, frames * patches[0, 0].numel(), self.training)
        return torch.cat([self.local_features(piece, frames) for piece in patches.split(frames * clips)])

    def glance_in_turn(self, clip: Tensor) -> Glance:
        """`glance_at`, some clips at a time, or some frames where the glances do not see each other."""
        side, alone = self.config.glance_size, self.glances_alone
        return glance_in_turn(self.glance_at, clip, side**2, alone, self.training)

    def cut(self, images: Tensor, corners: Tensor) -> Tensor:
        """Patches (N, 3, P, P) of images (N, 3, S, S) at corners (N, 2)."""
        return crop_patches(images, corners, self.config.patch)

    def local_features(self, images: Tensor, frames: int = 1) -> Tensor:
        """f_L and its pool: (N, 3, h, w) of patches, or of whole frames, to (N, F).

        frames: how many of them belong to one clip, where f_L lets frames see each other.
        """
        return self.pool(self.local(images, 1))

    def pool(self, maps: Tensor) -> Tensor:
        """Over space: (N, C, h, w) to (N, C)."""
        return pool_space(maps, self.config.pool)

    def classify(
        self, glance: Tensor, local: Tensor, state: Tensor | None = None, first: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Features (B, T, C) and (B, T, F) to logits (B, T, classes) and the state after the last frame.

        state: after the `first` frames before these.
        """
        known, state = self.accumulate(glance, local, state)
        logits: Tensor = self.classifier.answer(known, first)
        return logits, state

    def accumulate(self, glance: Tensor, local: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What f_C knows after each frame, and its state: all of `classify` that is alike at every step."""
        known: tuple[Tensor, Tensor] = self.classifier.accumulate(torch.cat([glance, local], dim=-1), state)
        return known

    def random_corners(self, batch: int, frames: int) -> Tensor:
        """Corners (B, T, 2), on the CPU, of patches anywhere."""
        return random_corners(batch * frames, self.config.room).unflatten(0, (batch, frames))

    # ---- a clip, and a stream

    def order(self, frames: int) -> list[int]:
        """The places in a clip of so many frames in the order in which they are read."""
        return coarse_to_fine(frames) if self.config.order == "coarse_to_fine" else list(range(frames))

    def places(self, frames: int) -> tuple[list[int], list[int]]:
        """Of the frames that f_G and f_L see, in a clip of so many, in the order read."""
        return self.order(frames), self.order(frames)

    def pieces(self) -> Pieces:
        """Glance, policies, local network and classifier; UsageError for patches anywhere."""
        if self.policy is None and self.config.policy == "random":
            raise not_portable(self.name, "its patches lie anywhere, another place at every call")
        return focus_pieces(self)

    def see(self, clip: Tensor) -> ClipFeatures:
        """What both networks find in a clip (B, 3, T, S, S), its frames in the order read."""
        order = self.order(clip.shape[2])
        return ClipFeatures(self, clip if order == sorted(order) else clip[:, :, order])

    def forward(self, clip: Tensor) -> Tensor:
        """clip: (B, 3, T, S, S). Returns the logits after the last frame that is read, (B, classes)."""
        if self.exits and not self.training:
            return self.output(clip).logits
        return self.focus(self.see(clip)).step_logits[:, -1]

    def output(self, clip: Tensor) -> ModelOutput:
        """The answer after every frame, where the model looked and where not. clip: (B, 3, T, S, S)."""
        everyone = torch.arange(len(clip))
        if self.exits and not self.training:
            passes = list(self._read_until_sure(clip))
        else:
            passes = [(everyone, self.focus(self.see(clip)))]
        return self._output_of(passes, self.order(clip.shape[2]), len(clip))

    def step(self, frame: Tensor, state: FocusState | None = None) -> tuple[ModelOutput, FocusState]:
        """One frame of a stream, (B, 3, S, S), and what to pass as `state` with the next.

        Frame by frame in the order read the answers are those to the clip; nothing exits.
        """
        seen = self.focus(ClipFeatures(self, frame.unsqueeze(2)), state)
        return self._output_of([(torch.arange(len(frame)), seen)], [0], len(frame)), seen.state

    def _read_until_sure(self, clip: Tensor) -> Iterator[tuple[Tensor, FocusPass]]:
        """Group by group, the numbers of the videos that are not sure yet and the pass over their frames.

        Nothing is computed for the others (conditional exit: Wang et al., CVPR 2022, section 3.4, where a
        group is a frame). Who was sure within the group keeps the first answer that was.
        """
        check_exits(self.exits, clip.shape[2])
        order, thresholds = torch.tensor(self.order(clip.shape[2])), torch.tensor(self.exits)
        frames = clip.movedim(1, -1)  # (B, T, S, S, 3), as it is stored
        reading, state = torch.arange(len(clip), device=clip.device), FocusState()
        for group, limits in zip(
            *(x.split(self.config.exit_group) for x in (order, thresholds)), strict=True
        ):
            chosen = frames[reading.unsqueeze(1), group.to(clip.device)].movedim(-1, 1)
            seen = self.focus(ClipFeatures(self, chosen), state)
            answers, unsure = hold_first_sure(seen.step_logits, limits.to(clip.device))
            yield reading.cpu(), replace(seen, step_logits=answers)
            reading, state = reading[unsure], seen.state.of(unsure)
            if not len(reading):
                return

    def _output_of(
        self, passes: Sequence[tuple[Tensor, FocusPass]], order: Sequence[int], batch: int
    ) -> ModelOutput:
        """Passes over the frames of `batch` videos, each over some of them, as one output."""
        frames, patch, logits = len(order), self.config.patch, passes[0][1].step_logits
        step_logits = logits.new_zeros(batch, frames, logits.shape[-1])
        boxes = torch.zeros(batch, frames, 4)
        looked, read = torch.zeros(2, batch, frames, dtype=torch.bool)
        steps = torch.zeros(batch, dtype=torch.int64)
        step_macs = torch.zeros(batch, frames, dtype=torch.int64)
        features = logits.new_zeros(batch, passes[0][1].features.shape[-1])
        done = 0
        for videos, seen in passes:
            count = seen.step_logits.shape[1]
            rows = videos.unsqueeze(1)
            places = torch.tensor(order[done : done + count])
            step_logits[videos, done:] = seen.step_logits[:, -1:]  # stands until a later answer replaces it
            step_logits[videos, done : done + count] = seen.step_logits
            corner = seen.corners.detach().float().cpu().flip(-1)  # left, top
            boxes[rows, places] = torch.cat([corner, corner + patch], -1)
            looked[rows, places] = True if seen.looked is None else seen.looked.cpu()
            read[rows, places] = True
            features[videos] += seen.features.sum(1).to(features.dtype)
            if not self.training:
                step_macs[videos, done:] += self._macs_of(seen)[
                    :, [*range(count), *[-1] * (frames - done - count)]
                ]
            done += count
            steps[videos] = done
        return ModelOutput(
            step_logits[:, -1],
            read,
            None if self.training else step_macs[:, -1],
            features / steps.unsqueeze(1).to(features.device),
            step_logits=step_logits,
            steps=steps,
            step_macs=None if self.training else step_macs,
            boxes=boxes,
            looked=looked,
        )

    def _macs_of(self, seen: FocusPass) -> Tensor:
        """Multiply-adds that a pass took for each of its B videos up to each of its T frames, (B, T)."""
        size, patch = self.config.size, self.config.patch
        maps, frames = seen.glance.maps[:1], seen.glance.maps.shape[1]
        macs = self.part_macs("glance_at", torch.empty(1, 3, frames, size, size))
        macs += sum(self.part_macs(part, maps) for part in ("policy", "skip_policy") if part in self.parts)
        macs += self.part_macs("classify", seen.glance.features[:1], seen.local[:1])
        look = self.part_macs("local_features", torch.empty(1, 3, patch, patch))
        read = torch.arange(1, frames + 1)
        looks = read if seen.looked is None else seen.looked.cumsum(1).cpu()
        return (macs * read // frames + look * looks).expand(len(seen.step_logits), frames)


class ClipFeatures:
    """`FocusFeatures` of a clip (B, 3, T, S, S); the glance is computed once.

    local_clip: the frames that f_L sees, where they are not those of the glance.
    """

    def __init__(self, model: FocusModel, clip: Tensor, local_clip: Tensor | None = None) -> None:
        self._model, self._clip = model, clip
        self._local_clip = clip if local_clip is None else local_clip
        self._glance: Glance | None = None

    def glance(self) -> Glance:
        if self._glance is None:
            self._glance = self._model.glance_in_turn(self._clip)
        return self._glance

    def local(self, corners: Tensor, looked: Tensor | None = None) -> Tensor:
        return self._model.look_at(self._local_clip, corners, looked)

    def random_corners(self) -> Tensor:
        clip = self._local_clip
        return self._model.random_corners(clip.shape[0], clip.shape[2]).to(clip.device)

    def whole_frames(self) -> Tensor:
        """What f_L finds in whole frames, (B, T, F)."""
        clip = self._local_clip
        features = self._model.local_features(fold_time(clip), clip.shape[2])
        return features.unflatten(0, (clip.shape[0], clip.shape[2]))


def given(value: Tensor | None) -> Callable[[Tensor, Tensor | None], tuple[Any, None]]:
    """A `Place` at these corners, or a `Look` as this says, whatever the glance finds."""
    return lambda maps, state: (value, None)


def coarse_to_fine(frames: int) -> list[int]:
    """The middle frame, the first, the last, then the middles of ever finer halves (AdaFocusV2).

    Each of the early frames tells as much of the whole clip as it can, which helps who stops early.
    """
    order = list(dict.fromkeys([(frames - 1) // 2, 0, frames - 1]))
    edges = sorted(order)
    while len(order) < frames:
        middles = [(a + b) // 2 for a, b in pairwise(edges) if b - a > 1]
        order += middles
        edges = sorted(edges + middles)
    return order
