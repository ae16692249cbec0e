"""What a prediction says, in the words and the JSON that every verb prints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from foveate.infer.clusters import Cluster
from foveate.infer.looks import Look


@dataclass(frozen=True)
class Guess:
    """One class. rank: from 1. score: softmax, or sigmoid if several classes may be true; 0 to 1."""

    rank: int
    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Segment:
    """A stretch of the video with one label. score: the mean over it, 0 to 1."""

    start_s: float
    end_s: float
    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Spent:
    """What the prediction cost.

    gmacs: 1e9 multiply-adds in all. frames_decoded: with those on the way to the ones that were asked for.
    frames_used: different ones that a network read. patches: crops a model chose to look at.
    """

    gmacs: float = 0.0
    frames_decoded: int = 0
    frames_used: int = 0
    patches: int = 0


@dataclass(frozen=True)
class Prediction:
    """The answer for one video. status: partial if the file is damaged, refused if it could not be used."""

    video: str
    model: str
    duration_s: float = 0.0
    fps: float = 0.0
    status: Literal["ok", "partial", "refused"] = "ok"
    cause: str | None = None
    predictions: tuple[Guess, ...] = ()
    segments: tuple[Segment, ...] = ()
    cost: Spent = field(default_factory=Spent)
    timing_ms: dict[str, float] = field(default_factory=dict)
    clusters: tuple[Cluster, ...] = ()  # of a full-video model; in its JSON only
    looks: tuple[Look, ...] = ()  # where a model with patches looked, in the first view; not in the JSON

    def to_dict(self) -> dict[str, Any]:
        """Plain data in the documented order; a file name that is not UTF-8 is shown with escapes."""
        data = dataclasses.asdict(dataclasses.replace(self, looks=()))
        del data["looks"]
        if not self.clusters:
            del data["clusters"]
        data["video"] = self.video.encode("utf-8", "backslashreplace").decode()
        return data
