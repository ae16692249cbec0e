"""Uni-AdaFocus: which frames deserve a close look, which part of each and of what size, and when to stop.

Wang et al., "Uni-AdaFocus: Spatial-temporal Dynamic Computation for Video Recognition", TPAMI 2024 (arXiv
2412.11228). One pass over a clip of N candidate frames, `UniModel.see`:

1. f_G glances at T of them                                    `glance_at`
2. the temporal policy weighs the glances                      `TemporalPolicy`, uni_policies.py
3. the frames: K quantiles of the weights among the N          `choose_frames`, layers/frame_choice.py
4. the spatial policy gives the glances boxes                  `SpatialPolicy`, uni_policies.py
   from which those of all N are interpolated                  `boxes_between`, layers/boxes.py
5. the boxes, sampled to P x P, are all that f_L sees          `look_at`; `sample_boxes`, layers/patch.py
6. answers after close looks, for the sure before any          `answer_looks`, `answer_glance`

No gradient passes the choices. The weights learn from the expected answer (`expected_logits`), the boxes from
what they cut out of the glance's maps in place of the pixels (`box_logits`, deep-feature interpolation); the
losses stand in train/recipes/uni.py. This file has what the three models share: the one for long videos is in
uni_long.py, those for TSM and X3D are in uni_clip.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.layers.boxes import box_pixels, boxes_between, random_boxes
from foveate.layers.fold import fold_time
from foveate.layers.frame_choice import choose_frames, glance_places, thresholds
from foveate.layers.patch import sample_boxes
from foveate.models.adafocus.early_exit import NEVER
from foveate.models.adafocus.late import AskedClip, Clip, StoredClip
from foveate.models.adafocus.seen import Glance, glance_in_turn
from foveate.models.adafocus.uni_policies import SpatialAttention, SpatialPolicy, TemporalPolicy
from foveate.models.adafocus.uni_portable import uni_pieces
from foveate.models.adafocus.uni_record import Record
from foveate.models.base import Frames, LateFrames, ModelOutput, Stops, VideoModel, rows_at_once
from foveate.models.dials import Dial, ExitDial
from foveate.models.pieces import Pieces

Memory = tuple[Tensor, ...]
"""What the answers after close looks need of the glances and of the looks before, each (B, ...)."""


class Choice(NamedTuple):
    """Where f_L looks in B videos."""

    weights: Tensor  # (B, T), of the glances, which add up to 1
    frames: Tensor  # (B, K) int64, places among the N candidates, in the order in which they are looked at
    glance_boxes: Tensor  # (B, T, 4), or (B, 1, 4) of all: row, column, height, width, in 0..1
    candidate_boxes: Tensor  # (B, N, 4)

    @property
    def boxes(self) -> Tensor:
        """Those of the frames, (B, K, 4)."""
        return self.candidate_boxes.gather(1, self.frames.unsqueeze(-1).expand(-1, -1, 4))


class UniModel(VideoModel):
    """What the models of Uni-AdaFocus share. Each says what its networks find and how it answers."""

    resizable = False  # the spatial policy is made for the glance's maps
    reports: tuple[str, ...] = ("step_logits", "steps", "step_macs", "boxes", "looked", "weights")
    head_names: tuple[str, ...] = ("glance_aux.", "local_aux.", "box_aux.")
    # submodules that `remember` and `answer_glance` read, and `accumulate` and `answer_known`
    glance_answers_by: tuple[str, ...]
    looks_answer_by: tuple[str, ...]
    glances_alone: bool  # f_G sees a frame without the others, and f_L a patch
    glance_antialias = True  # whether frames are filtered when they are shrunk for f_G
    detached: bool  # the temporal policy reads detached glances, and its loss leaves them alone
    local_channels: int  # F, of what f_L finds
    glance_aux: Any  # features of the glances (B, T, C) to logits: what f_G learns from
    local_aux: Any  # the same of f_L

    def __init__(self, channels: int, side: int, span: int, spec: ClipSpec, config: Any) -> None:
        """channels, side: of the glance's maps. span: glances that share a box."""
        super().__init__()
        self.temporal_policy = TemporalPolicy(channels, config.temporal_width)
        if config.spatial == "attention":
            pixels, width = config.glance_size, config.spatial_width
            self.spatial_policy: SpatialPolicy | SpatialAttention = SpatialAttention(
                channels, width, span, config.least_box, pixels // side, pixels, config.glance_offset
            )
        else:
            self.spatial_policy = SpatialPolicy(channels, side, config.spatial_width, span)
        self.box_aux = nn.Linear(channels, config.num_classes)
        self.span, self.map_side = span, side
        self.spec, self.config = spec, config

    def pieces(self) -> Pieces:
        """Glance, both policies, local network and classifier, as they are set."""
        return uni_pieces(self)

    # ---- what a model of its own says

    def glance_at(self, clip: Tensor) -> Glance:
        """What f_G finds in T frames (B, 3, T, S, S), which it shrinks to the glance size if they are not."""
        raise TypeError(f"{type(self).__name__} does not implement `glance_at`")

    def local_features(self, patches: Tensor, frames: int, *told: Any) -> Tensor:
        """What f_L finds in patches (B*frames, 3, P, P), pooled over space, (B*frames, F). told: `told`."""
        raise TypeError(f"{type(self).__name__} does not implement `local_features`")

    def remember(self, glance: Glance) -> Memory:
        """What the answers after close looks need of the glances."""
        raise TypeError(f"{type(self).__name__} does not implement `remember`")

    def answer_glance(self, glance: Glance, memory: Memory) -> Tensor:
        """Logits (B, 1, classes) after the glances, for who is sure then already."""
        raise TypeError(f"{type(self).__name__} does not implement `answer_glance`")

    def answer_looks(self, memory: Memory, local: Tensor, first: int = 0) -> tuple[Tensor, Memory]:
        """Logits (B, n, classes) after close looks (B, k, F) that `first` others came before."""
        known, memory = self.accumulate(memory, local)
        return self.answer_known(known, first), memory

    def accumulate(self, memory: Memory, local: Tensor) -> tuple[Tensor, Memory]:
        """What answers read, (B, n, ...), and the memory after these looks: all of `answer_looks` that is
        alike at every step. Behind what `remember` gives, the memory may have a state of the looks."""
        raise TypeError(f"{type(self).__name__} does not implement `accumulate`")

    def answer_known(self, known: Tensor, first: int = 0) -> Tensor:
        """Logits (B, n, classes) of what is known, (B, n, ...), after `first` other looks."""
        raise TypeError(f"{type(self).__name__} does not implement `answer_known`")

    def answers(self, glance: Glance, *looks: Tensor) -> list[Tensor]:
        """All logits (B, n, classes) that training wants right, for each of several looks (B, K, F)."""
        raise TypeError(f"{type(self).__name__} does not implement `answers`")

    def auxiliary(self, logits: Tensor) -> Tensor:
        """The answers (B, n, classes) that a network learns from, of those of its frames, (B, k, classes)."""
        raise TypeError(f"{type(self).__name__} does not implement `auxiliary`")

    # ---- how f_L looks

    def order(self, looks: int) -> list[int]:
        """The places among so many chosen frames in the order in which they are looked at."""
        return list(range(looks))

    @property
    def patch(self) -> int:
        """Side of what it sees of a box, pixels."""
        side: int = self.config.patch
        return side

    @property
    def told(self) -> tuple[Any, ...]:
        """Plain values that `local_features` is given beside the patches."""
        return ()

    def seen_together(self, frames: int) -> int:
        """How many of the frames of a clip it sees together."""
        return 1 if self.glances_alone else frames

    # ---- the pass over a clip

    @property
    def looks_late(self) -> Stops:
        return partial(first_and_later, glances=self.config.glance_frames, looks=self.config.local_frames)

    def prepare(self, frames: Frames, device: torch.device | str | None = None) -> Any:
        if isinstance(frames, LateFrames):
            return AskedClip(frames, self.spec, device)
        if isinstance(frames, Tensor):
            return StoredClip(frames, self.spec, device)
        return super().prepare(frames, device)

    def see(self, clip: Clip) -> tuple[Glance, Choice, Tensor]:
        """Glance, choice and close look (B, K, F) at a clip (B, 3, N, S, S)."""
        glance = self.glance_in_turn(self.frames_for_glance(clip, self.glanced(clip)))
        choice = self.choose(glance, clip.shape[2])
        return glance, choice, self.look_at(self.frames_at(clip, choice.frames), choice.boxes)

    def glanced(self, clip: Clip, within: float | Tensor = 0.5) -> Tensor:
        """Places of the glances in a clip (B, 3, N, S, S), (T,) or (B, T); within: see `glance_places`."""
        least = max(self.config.glance_frames, self.config.local_frames)
        if clip.shape[2] < least:
            cause = f"has {clip.shape[2]} frames, of which {least} different ones are to be looked at"
            raise UsageError("clip", cause, "give more candidates, or set fewer local_frames")
        return glance_places(clip.shape[2], self.config.glance_frames, within).to(clip.device)

    def frames_for_glance(self, clip: Clip, places: Tensor) -> Tensor:
        """Frames of a clip at places (T,), as `glance_at` takes them: where they are still to be normalised,
        already shrunk, as that is less to normalise."""
        if isinstance(clip, Tensor):
            return self.frames_at(clip, places)
        return clip.small(places, self.config.glance_size, self.glance_antialias)

    def frames_at(self, clip: Clip, places: Tensor, videos: Tensor | None = None) -> Tensor:
        """Frames (V, 3, k, S, S) of a clip at places (k,) or (V, k). videos: (V,), by default all."""
        if not isinstance(clip, Tensor):
            return clip.at(places, videos)
        videos = torch.arange(len(clip)) if videos is None else videos
        rows = videos.to(clip.device).unsqueeze(1)
        return clip.movedim(1, -1)[rows, places.expand(len(videos), -1)].movedim(-1, 1)  # as it is stored

    def choose(self, glance: Glance, candidates: int, shares: Tensor | None = None) -> Choice:
        """Frames and boxes among N candidates. shares: `thresholds`, by default the middles of K parts."""
        features = glance.features.detach() if self.detached else glance.features
        weights = self.temporal_policy(features)
        shares = thresholds(self.config.local_frames) if shares is None else shares
        frames = choose_frames(weights, candidates, shares)[:, self.order(shares.shape[-1])]
        boxes = self.spatial_policy(glance.maps)
        return Choice(weights, frames, boxes, boxes_between(boxes, candidates))

    def look_at(self, frames: Tensor, boxes: Tensor) -> Tensor:
        """What f_L finds in boxes (B, k, 4) of frames (B, 3, k, S, S): (B, k, F)."""
        batch, count = boxes.shape[:2]
        patches = self.cut(fold_time(frames), boxes.flatten(0, 1))
        at_once = rows_at_once(patches, count * patches[0, 0].numel(), self.training)
        pieces = patches.split(count * at_once)
        together = self.seen_together(count)
        found = [self.local_features(piece, together, *self.told) for piece in pieces]
        return torch.cat(found).unflatten(0, (batch, count))

    def cut(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Patches (N, 3, P, P) of images (N, 3, S, S) in boxes (N, 4)."""
        return sample_boxes(images, self.pixels(boxes), self.patch, self.config.padding)

    def pixels(self, boxes: Tensor) -> Tensor:
        """Top, left, height and width (..., 4) in pixels of the clip, of boxes (..., 4)."""
        return box_pixels(boxes, self.config.size, self.config.least_box * self.config.size)

    def glance_in_turn(self, clip: Tensor) -> Glance:
        """`glance_at`, some clips at a time, or some frames where the glances do not see each other."""
        side, alone = self.config.glance_size, self.glances_alone
        return glance_in_turn(self.glance_at, clip, side**2, alone, self.training)

    # ---- what the boxes learn from

    def box_logits(self, glance: Glance, boxes: Tensor) -> Tensor:
        """Logits (B, classes) from what boxes (B, T, 4) or (B, 1, 4) cut out of the glance's maps, detached.

        As many points a side as the patch is cells of the map large; the gradient goes to the boxes. Where
        attention makes the boxes, from what it attends to.
        """
        if isinstance(self.spatial_policy, SpatialAttention):
            attended: Tensor = self.box_aux(self.spatial_policy.attended(glance.maps).mean(1))
            return attended
        batch, frames = glance.maps.shape[:2]
        points, pixels = self.map_boxes(boxes.expand(batch, frames, 4).flatten(0, 1))
        maps = glance.maps.detach().flatten(0, 1)
        found = sample_boxes(maps, pixels, points, self.config.padding).mean((-2, -1))
        logits: Tensor = self.box_aux(found.unflatten(0, (batch, frames)).mean(1))
        return logits

    def map_boxes(self, boxes: Tensor) -> tuple[int, Tensor]:
        """Points a side, and boxes (..., 4) in cells of the maps: the same parts of them as of the frame."""
        side = self.map_side
        points = max(1, round(self.config.patch * side / self.config.size))
        return points, box_pixels(boxes, side, self.config.least_box * side)

    def random_boxes(self, corners: Tensor) -> Tensor:
        """Boxes (B, k, 4) of the patch's own size at corners (B, k, 2), fractions in [0, 1]."""
        least = self.config.least_box * self.config.size
        return random_boxes(corners, (self.config.patch - least) / (self.config.size - least))

    # ---- answers

    @property
    def answers_after(self) -> tuple[int, ...]:
        return (0, self.config.local_frames)

    @property
    def looks_at_once(self) -> int:
        """Close looks between two answers."""
        frames: int = self.config.local_frames
        return frames

    @property
    def num_classes(self) -> int:
        return self.box_aux.out_features

    def reset_head(self, num_classes: int) -> None:
        self.box_aux = nn.Linear(self.box_aux.in_features, num_classes)
        self.config = replace(self.config, num_classes=num_classes)

    def set_exits(self, exits: tuple[float, ...]) -> None:
        """Stop reading at these probabilities of the best class, one for each answer; none: read all."""
        self.config = replace(self.config, exits=exits)

    @property
    def exits(self) -> tuple[float, ...]:
        """Probability of the best class at which reading stops, after each answer; empty: never."""
        thresholds: tuple[float, ...] = self.config.exits if self.setting is None else self.setting
        thresholds = thresholds[-len(self.answers_after) :]
        return thresholds if min(thresholds[:-1], default=NEVER) < NEVER else ()

    @property
    def dynamic(self) -> bool:  # type: ignore[override]
        return bool(self.exits)

    @property
    def dial(self) -> Dial:
        """Where reading stops."""
        return ExitDial(len(self.answers_after), self.config.exit_group if self.span == 1 else 1)

    def forward(self, clip: Clip) -> Tensor:
        """clip: (B, 3, N, S, S), any N of at least T and K. Returns the logits of the last answer."""
        if self.exits and not self.training:
            return self.output(clip).logits
        glance, _, local = self.see(clip)
        return self.answer_looks(self.remember(glance), local)[0][:, -1]

    def output(self, clip: Clip) -> ModelOutput:
        """Answers after the glances and after the close looks, and what was chosen. clip: as in `forward`.

        Of who is sure after an answer nothing more is computed (conditional exit). The answer after the
        glances is charged only where a video may stop there.
        """
        exits = () if self.training else self.exits
        everyone, places, candidates = torch.arange(len(clip)), self.glanced(clip), clip.shape[2]
        record = Record(self, len(clip), candidates)
        glance = self.glance_in_turn(self.frames_for_glance(clip, places))
        memory = self.remember(glance)
        record.glanced(places, glance, memory, bool(exits))
        unsure = record.answer(everyone, self.answer_glance(glance, memory), exits)
        videos, memory, glance = everyone[unsure], _of(memory, unsure), Glance(*_of(glance, unsure))
        if not len(videos):
            return record.output()
        choice = self.choose(glance, candidates)
        record.chose(videos, choice.weights, self.pixels(choice.candidate_boxes), glance)
        at_once = self.looks_at_once if exits else self.config.local_frames
        for first in range(0, self.config.local_frames, at_once):
            group = slice(first, first + at_once)
            frames, boxes = choice.frames[:, group], choice.boxes[:, group]
            local = self.look_at(self.frames_at(clip, frames, videos), boxes)
            record.saw(videos, frames, local, memory)
            answers, memory = self.answer_looks(memory, local, first)
            unsure = record.answer(videos, answers, exits)
            videos, memory, choice = videos[unsure], _of(memory, unsure), Choice(*_of(choice, unsure))
            if not len(videos):
                break
        return record.output()


def first_and_later(frames: int, glances: int, looks: int) -> tuple[list[int], int]:
    """`VideoModel.looks_late` of a model with so many glances and close looks."""
    return glance_places(frames, glances).tolist(), looks


def _of(values: Sequence[Tensor], videos: Tensor) -> tuple[Tensor, ...]:
    """Those of some videos, chosen by a mask (B,)."""
    return tuple(values) if bool(videos.all()) else tuple(value[videos] for value in values)
