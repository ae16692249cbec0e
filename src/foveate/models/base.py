"""What every model offers, whatever it is made of: how it is fed, what it answers, what that cost.

A caller needs three lines, the same for all models:

    clip = model.prepare(frames)      # bytes as decoded and cut to size, to what the model reads
    output = model.output(clip)       # a ModelOutput: logits, what was chosen, multiply-adds of each clip
    scores = model.probabilities(output.logits)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.layers.macs import macs_from_shapes
from foveate.layers.normalise import to_clip

Frames = Tensor | Sequence[Tensor] | Iterable[Tensor]
"""Clips as bytes: uint8 (B, T, S, S, C); a sequence of (T, S, S, C) of different lengths; or one long clip as
an iterable of chunks (k, S, S, C) that can be gone through several times."""


@dataclass(frozen=True)
class ModelOutput:
    """What a model answered to B clips of T frames and what it did for it; one type for all models.

    A field is None where the model has nothing to say of it; `VideoModel.reports` names those that it fills.
    Frames are counted in the order of the clip, whatever the order in which a model reads them. Everything
    about decisions is on the CPU.
    """

    logits: Tensor  # (B, classes), raw
    frames_read: Tensor  # (B, T) bool: some network of the model saw the frame
    macs: Tensor | None = None  # (B,) int64, multiply-adds of each clip; None in training mode
    features: Tensor | None = None  # (B, C), what is classified, averaged over frames, windows or clusters
    step_logits: Tensor | None = (
        None  # (B, K, classes), the answer after each of K frames; the last is `logits`
    )
    steps: Tensor | None = None  # (B,) int64, frames after which the answer was given, 1 to K
    frame_logits: Tensor | None = None  # (B, F, classes), of each frame, pair of frames or cluster
    window_logits: Tensor | None = (
        None  # (B, P, classes), at P places of a large crop; their mean is `logits`
    )
    boxes: Tensor | None = None  # (B, T, 4), left, top, right, bottom of the patch in pixels of the clip
    looked: Tensor | None = None  # (B, T) bool: the local network saw the patch in `boxes`
    sizes: Tensor | None = None  # (B, T) int64, side in pixels at which a frame was read; 0: skipped
    clusters: Tensor | None = None  # (B, T) int64, number of each frame's cluster; -1: not in any
    pathways: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # frames that each pathway reads


def every_frame(frames: int) -> list[int]:
    """All places of a clip of so many frames."""
    return list(range(frames))


class VideoModel(nn.Module):
    """A clip in, raw logits out, the same in training and evaluation.

    A model is a composition of static parts, which do the same work for every input of a shape, and of the
    decisions between them. An engine may put a compiled twin in the place of each part (infer/engine.py).
    """

    spec: ClipSpec  # what the model wants to see
    config: Any  # the frozen dataclass that it was built from
    name: str = ""  # its line in the zoo
    labels: tuple[str, ...] = ()  # class names in the order of the logits; empty if unknown
    trained_on: str = ""  # the data that it has learnt from, in words; empty if unknown or untrained
    independent: bool = False  # several classes may be true at once, each with a probability of its own
    dynamic: bool = False  # what is computed depends on the pixels
    resizable: bool = True  # a crop of another size can be read
    takes_chunks: bool = False  # `output` takes a long clip as an iterable of chunks of bytes
    reports: tuple[str, ...] = ()  # fields of ModelOutput, beside the first four, that it fills
    # Attributes, submodules or methods, that are static: tensors in, tensors out, the same work for every
    # input of a shape. Each is an attribute that can be replaced.
    parts: tuple[str, ...] = ()
    head_names: tuple[str, ...] = ("head.",)  # how the keys of all classifiers in the state dict begin
    head: Any  # the classifier; a model of several overrides `num_classes` and `reset_head`

    @property
    def num_classes(self) -> int:
        """Length of the logits."""
        classes: int = self.head.linear.out_features
        return classes

    @property
    def frames_needed(self) -> Callable[[int], list[int]]:
        """A plain function: of so many frames of a clip, the places of those on which the answer depends."""
        return every_frame

    def reset_head(self, num_classes: int) -> None:
        """A new, untrained classifier for other classes."""
        self.head.reset(num_classes)
        self.config = replace(self.config, num_classes=num_classes)

    def prepare(self, frames: Frames, device: torch.device | str | None = None) -> Any:
        """What `output` and `forward` take, made of bytes: the normalised clip (B, 3, T, S, S).

        UsageError for clips of different lengths, which only a full-video model reads.
        """
        if not isinstance(frames, Tensor):
            lengths = sorted({len(clip) for clip in frames})
            cause = f"clips of {lengths} frames do not fit together"
            raise UsageError("batch", cause, "use a full-video model")
        return to_clip(frames, self.spec, device)

    def forward(self, clip: Any) -> Tensor:
        """clip: (B, 3, T, H, W) float, normalised, as `prepare` makes it. Returns logits (B, classes)."""
        return self.output(clip).logits

    def output(self, clip: Any) -> ModelOutput:
        """The logits, and what the model chose, read and computed. clip: as in `forward`."""
        raise TypeError(f"{type(self).__name__} has no `output`")

    def features(self, clip: Any) -> Tensor:
        """What is classified, (B, C), averaged over frames, windows or clusters. clip: as in `forward`."""
        features = self.output(clip).features
        assert features is not None
        return features

    def set_exits(self, exits: tuple[float, ...]) -> None:
        """Stop reading at these probabilities of the best class; for models that answer after every frame."""
        raise TypeError(f"{type(self).__name__} does not answer after every frame")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of logits (..., classes): their softmax, or the sigmoid of each if the classes are independent."""
        return logits.sigmoid() if self.independent else logits.softmax(-1)

    def part_macs(self, part: str, *inputs: Any) -> int:
        """Multiply-adds of one call of a part on inputs of these shapes; found once for each shape.

        part: a name of `parts`. inputs: tensors, whose values do not matter, plain values, or tuples of both.
        """
        known: dict[Any, int] = self.__dict__.setdefault("_part_macs", {})
        values, structure = tree_flatten(inputs)
        shapes = tuple(tuple(x.shape) if isinstance(x, Tensor) else x for x in values)
        key = (part, shapes, str(structure), self.num_classes)
        if key not in known:
            known[key] = macs_from_shapes(self, part, inputs)
        return known[key]


def all_read(clip: Tensor) -> Tensor:
    """`frames_read` of a model that reads every frame of a clip (B, C, T, H, W)."""
    return torch.ones(clip.shape[0], clip.shape[2], dtype=torch.bool)


def same_macs(macs: int, batch: int) -> Tensor:
    """`macs` of `batch` clips that cost the same."""
    return torch.full((batch,), macs, dtype=torch.int64)
