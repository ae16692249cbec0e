"""Predictions: from the outputs of a model to labels, as printed in JSON by all commands."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ClassScore:
    """One class of a prediction. rank: from 1. score: softmax, or sigmoid if multi-label; in [0, 1]."""

    rank: int
    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Segment:
    """A time range of the video with one label. score: the mean over its windows, in [0, 1]."""

    start_s: float
    end_s: float
    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Cost:
    """Cost of a prediction.

    gmacs: multiply-adds / 1e9, in total. frames_decoded: including frames decoded to reach the requested
    ones. frames_used: distinct frames on which a network ran. patches: patches on which a local network ran.
    """

    gmacs: float = 0.0
    frames_decoded: int = 0
    frames_used: int = 0
    patches: int = 0


@dataclass(frozen=True)
class Cluster:
    """A time range whose frames the model averaged. frames: distinct frames in it. cluster: index, from 0."""

    start_s: float
    end_s: float
    frames: int
    cluster: int


@dataclass(frozen=True)
class PatchBox:
    """The patch that a model chose in one frame. box: left, top, right, bottom in pixels of the video."""

    frame: int
    time_s: float
    box: tuple[int, int, int, int]
    looked: bool  # False if the local network did not run on it: a skip or an early exit


@dataclass(frozen=True)
class FrameSize:
    """The side in pixels at which a model processed one frame; 0 if it skipped the frame."""

    frame: int
    time_s: float
    size: int


@dataclass(frozen=True)
class Prediction:
    """The prediction for one video. status: partial if the file is damaged, refused if it could not be used.

    clusters, boxes, sizes, pathways and frames are of the first clip of each window, in its centre crop.
    """

    video: str
    model: str
    trained_on: str = ""  # the data that the model has learnt from, in words
    duration_s: float = 0.0
    fps: float = 0.0
    status: Literal["ok", "partial", "refused"] = "ok"
    cause: str | None = None
    hint: str = ""  # what to do about a cause
    protocol: str = ""  # what was averaged: time windows or the whole video, clips and crops of each
    predictions: tuple[ClassScore, ...] = ()
    segments: tuple[Segment, ...] = ()
    cost: Cost = field(default_factory=Cost)
    timing_ms: dict[str, float] = field(default_factory=dict)
    clusters: tuple[Cluster, ...] = ()  # of a full-video model
    boxes: tuple[PatchBox, ...] = ()  # of a model that processes patches
    sizes: tuple[FrameSize, ...] = ()  # of a model that chooses resolutions
    pathways: dict[str, tuple[int, ...]] = field(default_factory=dict)  # frame indices by pathway
    frames: tuple[int, ...] = ()  # indices of the frames on which a network ran, increasing
    keyframes: tuple[int, ...] = ()  # indices of the frames read, where key frames stood for the others

    def to_dict(self, choices: bool = False) -> dict[str, Any]:
        """Convert to plain data for JSON; a file name that is not UTF-8 gets escapes.

        choices: include boxes, sizes, pathways and frames, which have an entry for each frame.
        """
        data = {each.name: _plain(getattr(self, each.name)) for each in dataclasses.fields(Prediction)}
        for name in ("clusters", "boxes", "sizes", "pathways", "frames", "keyframes"):
            if not data[name] or (name not in ("clusters", "keyframes") and not choices):
                del data[name]
        if not self.hint:
            del data["hint"]
        data["video"] = self.video.encode("utf-8", "backslashreplace").decode()
        return data

    @property
    def label(self) -> str:
        """The best class; empty for a video that was refused."""
        return self.predictions[0].label if self.predictions else ""

    @property
    def top(self) -> tuple[ClassScore, ...]:
        """The best classes, the likeliest first."""
        return self.predictions

    def csv_row(self, top: int) -> list[str]:
        """The cells below `csv_header(top)`."""
        named = [cell for each in self.predictions[:top] for cell in (each.label, f"{each.score:.6f}")]
        facts = [
            self.model,
            self.status,
            self.cause or "",
            f"{self.duration_s:.3f}",
            f"{self.cost.gmacs:.6f}",
        ]
        return [self.to_dict()["video"], *facts, *named, *[""] * (2 * top - len(named))]


def csv_header(top: int) -> list[str]:
    """Names of the columns of predictions with so many classes."""
    ranks = [f"{name}_{rank}" for rank in range(1, top + 1) for name in ("label", "score")]
    return ["video", "model", "status", "cause", "duration_s", "gmacs", *ranks]


def _plain(value: Any) -> Any:
    """A field as JSON takes it."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
