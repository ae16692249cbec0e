"""The interface of all models: `prepare` makes their input, `output` gives their results and cost.

Three lines are the same for all models:

    clip = model.prepare(frames)      # uint8 frames, resized and cropped, to the input of the model
    output = model.output(clip)       # a ModelOutput: logits, decisions, multiply-adds of each clip
    scores = model.probabilities(output.logits)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.layers.macs import macs_from_shapes
from foveate.layers.normalise import to_clip
from foveate.models.budget import Curve
from foveate.models.dials import Dial, Setting
from foveate.models.pieces import Piece, Pieces, normalised, not_portable, some_frames


class LateFrames:
    """One clip whose frames are decoded when they are asked for, for models that choose them."""

    def __len__(self) -> int:
        """The number of frames, of which it has decoded none."""
        raise TypeError(f"{type(self).__name__} does not implement `__len__`")

    def at(self, places: Sequence[int]) -> Tensor:
        """uint8 frames (k, S, S, 3) at these places of the clip."""
        raise TypeError(f"{type(self).__name__} does not implement `at`")


Frames = Tensor | Sequence[Tensor] | Iterable[Tensor] | LateFrames
"""uint8 frames of clips, RGB or flow: (B, T, S, S, C); a sequence of (T, S, S, 3) of different lengths; one
long clip as an iterable of chunks (k, S, S, 3) that can be iterated over several times; or one that is
decoded late."""
Stops = Callable[[int], tuple[list[int], int]]
"""Picklable: frames of a clip -> places that a model reads first, and how many more it then chooses."""


@dataclass(frozen=True)
class ModelOutput:
    """Output of any model for B clips of T frames: logits, decisions and cost.

    A field is None if the model does not have it; `VideoModel.reports` names the optional fields that it has.
    Frames are in the order of the clip, even if a model reads them in another order. Decisions and costs are
    on the CPU.
    """

    logits: Tensor  # (B, classes), before softmax or sigmoid
    frames_read: Tensor  # (B, T) bool: some network of the model ran on the frame
    macs: Tensor | None = None  # (B,) int64, multiply-adds of each clip; None in training mode
    features: Tensor | None = None  # (B, C), input of the classifier, averaged over frames or positions
    step_logits: Tensor | None = None  # (B, K, classes), K answers on the way; the last is `logits`
    steps: Tensor | None = None  # (B,) int64, number of answers after which the model stopped, 1 to K
    # (B, K) int64, multiply-adds until each answer; the last: `macs`
    step_macs: Tensor | None = None
    frame_logits: Tensor | None = None  # (B, F, classes), of each frame, pair of frames or cluster
    position_logits: Tensor | None = None  # (B, P, classes), at P positions of a large crop; mean: `logits`
    boxes: Tensor | None = None  # (B, T, 4), left, top, right, bottom of the patch in pixels of the clip
    looked: Tensor | None = None  # (B, T) bool: the local network ran on the patch in `boxes`
    weights: Tensor | None = None  # (B, T), of frames that were glanced at, with the sum 1; 0 for others
    sizes: Tensor | None = None  # (B, T) int64, side in pixels at which a frame was processed; 0: skipped
    clusters: Tensor | None = None  # (B, T) int64, index of each frame's cluster; -1: not in any
    pathways: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # frame indices by pathway

    def clips(self, chosen: slice) -> ModelOutput:
        """The output for some of the clips."""
        kept: dict[str, Any] = {
            name: value[chosen] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **kept)


PIXELS_AT_ONCE = 1 << 18  # of images that a network runs on together, as 5 of 224 x 224


def rows_at_once(rows: Tensor, pixels: int, training: bool = False) -> int:
    """How many of the rows of a tensor, clips or images of so many pixels, a network runs on together.

    Feature maps of more leave a processor's cache, which costs more than larger matrix products save: up to
    half of the time. In training, and on a GPU, all of them.
    """
    few = rows.device.type == "cpu" and not training
    return max(1, PIXELS_AT_ONCE // max(1, pixels)) if few else max(1, len(rows))


def every_frame(frames: int) -> list[int]:
    """Indices of all frames of a clip with this number of frames."""
    return list(range(frames))


def spread_over(frames: int, wanted: int) -> list[int]:
    """The middles of `wanted` equal parts of a clip of `frames` frames."""
    return [int((i + 0.5) * frames / wanted) for i in range(wanted)]


class VideoModel(nn.Module):
    """Base class of all models: clip in, logits out, the same in training and evaluation mode.

    A model consists of static parts, which do the same operations for every input of a given shape, and of
    Python code that decides between them. An engine may replace each part by a compiled one
    (infer/engine.py).
    """

    spec: ClipSpec  # the input format
    config: Any  # the frozen dataclass that it was built from
    name: str = ""  # in models/zoo.py
    labels: tuple[str, ...] = ()  # class names in the order of the logits; empty if unknown
    trained_on: str = ""  # description of the training data; empty if unknown or untrained
    independent: bool = False  # multi-label: sigmoid per class in place of one softmax
    dynamic: bool = False  # the operations depend on the content of the clip
    resizable: bool = True  # crops of other sizes work
    takes_chunks: bool = False  # `output` takes a long clip as an iterable of chunks of uint8 frames
    reports: tuple[str, ...] = ()  # optional fields of ModelOutput (those after `features`) that it has
    # names of the static parts: submodules or methods, tensors in, tensors out, with the same operations for
    # every input of a given shape; each can be replaced by setting the attribute
    parts: tuple[str, ...] = ()
    step_parts: tuple[str, ...] = ()  # further static parts, which `step` alone calls
    streams: bool = False  # `step` takes a stream frame by frame, in the order of time
    stretch: int | None = None  # frames after which a stream begins anew, as its state is made for so many
    head_names: tuple[str, ...] = ("head.",)  # prefixes of the keys of all classifiers in the state dict
    head: Any  # the classifier; models with several override `num_classes` and `reset_head`
    curve: Curve | None = None  # what it costs by the setting of its dial; None: not measured

    @property
    def num_classes(self) -> int:
        """Number of classes of the logits."""
        classes: int = self.head.linear.out_features
        return classes

    @property
    def frames_needed(self) -> Callable[[int], list[int]]:
        """A picklable function: number of frames of a clip -> indices of the frames that the model reads."""
        return every_frame

    @property
    def looks_late(self) -> Stops | None:
        """What a model reads before it chooses frames, if `output` takes one clip as `LateFrames`."""
        return None

    @property
    def answers_after(self) -> tuple[int, ...]:
        """Frames that were looked at closely before each row of `ModelOutput.step_logits`; none: no rows."""
        return ()

    def reset_head(self, num_classes: int) -> None:
        """Replace the classifier by a new, untrained one for `num_classes` classes."""
        self.head.reset(num_classes)
        self.config = replace(self.config, num_classes=num_classes)

    @property
    def dial(self) -> Dial | None:
        """What can be set to make it answer for less; None: nothing."""
        return None

    @property
    def setting(self) -> Setting | None:
        """That of the dial, in evaluation mode; None: what the configuration says."""
        return None if self.training else self.turned.get("setting")

    @property
    def turned(self) -> dict[str, Setting]:
        """Holds `setting`; a model with compiled parts shares it with the one that it was made from."""
        turned: dict[str, Setting] = self.__dict__.setdefault("_turned", {})
        return turned

    def turn(self, setting: Setting | None) -> None:
        """Set the dial, or with None leave it to the configuration; ValueError for what it cannot be set to.

        No weight and no compiled part changes, so it can be done before every call.
        """
        if setting is None:
            self.turned.clear()
            return
        if self.dial is None:
            raise ValueError(f"{self.name or 'the model'} has nothing to set")
        self.dial.check(setting)
        self.turned["setting"] = setting

    def prepare(self, frames: Frames, device: torch.device | str | None = None) -> Any:
        """Convert uint8 frames to the input of `output` and `forward`: a normalised clip (B, C, T, S, S).

        UsageError for clips of different lengths, which only full-video models take.
        """
        if isinstance(frames, LateFrames):
            raise UsageError("clip", "is decoded late", "this model reads all frames: decode them before")
        if not isinstance(frames, Tensor):
            lengths = sorted({len(clip) for clip in frames})
            cause = f"clips of different lengths, {lengths} frames"
            raise UsageError("batch", cause, "use a full-video model")
        return to_clip(frames, self.spec, device)

    def forward(self, clip: Any) -> Tensor:
        """clip: (B, C, T, H, W) float, normalised, as `prepare` makes it. Returns logits (B, classes)."""
        return self.output(clip).logits

    def output(self, clip: Any) -> ModelOutput:
        """Logits, decisions and cost. clip: as in `forward`."""
        raise TypeError(f"{type(self).__name__} does not implement `output`")

    def step(self, frame: Tensor, state: Any = None) -> tuple[ModelOutput, Any]:
        """One frame of a stream: the output after it, as for a clip of one frame, and the next state.

        frame: (B, 3, S, S), normalised. state: what the call before returned; None at the start.
        """
        raise TypeError(f"{type(self).__name__} needs clips; it has no step for streams")

    def features(self, clip: Any) -> Tensor:
        """The classifier's input, averaged over frames or positions, (B, C). clip: as in `forward`."""
        features = self.output(clip).features
        assert features is not None
        return features

    def set_exits(self, exits: tuple[float, ...]) -> None:
        """Set early-exit thresholds on the top probability, for models with logits after every frame."""
        raise TypeError(f"{type(self).__name__} has no logits after every frame")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of logits (..., classes), or sigmoids if the classes are independent."""
        return logits.sigmoid() if self.independent else logits.softmax(-1)

    def pieces(self) -> Pieces:
        """The model as graphs of tensors; UsageError for one that cannot be taken apart so."""
        if self.dynamic:
            raise not_portable(self.name, "what it computes depends on the clip")
        frames = some_frames(self.spec)
        run = partial(_answer_frames, self)
        return Pieces({"model": Piece(run, {"frames": frames}, ("logits",), (self,))})

    def part_macs(self, part: str, *inputs: Any) -> int:
        """Multiply-adds of one call of a static part, from the shapes of its inputs; cached for each shape.

        part: a name in `parts`. inputs: tensors, whose values do not matter, plain values, or tuples of both.
        """
        values, structure = tree_flatten(inputs)
        shapes = tuple(tuple(x.shape) if isinstance(x, Tensor) else x for x in values)
        key, known = f"{part} {shapes} {structure} {self.num_classes}", self.known_macs
        if key not in known:
            known[key] = macs_from_shapes(self, part, inputs)
        return known[key]

    @property
    def known_macs(self) -> dict[str, int]:
        """What `part_macs` has counted so far, by part and shapes; engines keep it for the next process."""
        found: dict[str, int] = self.__dict__.setdefault("_known_macs", {})
        return found


def _answer_frames(model: VideoModel, frames: Tensor) -> Tensor:
    """Logits (B, classes) of uint8 frames (B, T, S, S, C)."""
    logits: Tensor = model(normalised(frames, model.spec))
    return logits


def all_read(clip: Tensor) -> Tensor:
    """`ModelOutput.frames_read` of a model that reads every frame of a clip (B, C, T, H, W)."""
    return torch.ones(clip.shape[0], clip.shape[2], dtype=torch.bool)


def same_macs(macs: int, batch: int) -> Tensor:
    """`ModelOutput.macs` of `batch` clips that cost the same."""
    return torch.full((batch,), macs, dtype=torch.int64)
