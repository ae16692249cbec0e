"""What a prediction says: from the outputs of a model to names, in the JSON that every verb prints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ClassScore:
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
class Cost:
    """What the prediction cost.

    gmacs: 1e9 multiply-adds in all. frames_decoded: with those on the way to the ones that were asked for.
    frames_used: different ones that a network read. patches: crops that a local network looked at.
    """

    gmacs: float = 0.0
    frames_decoded: int = 0
    frames_used: int = 0
    patches: int = 0


@dataclass(frozen=True)
class Cluster:
    """A stretch whose frames the model averaged. frames: different ones it saw. cluster: number, from 0."""

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
    looked: bool  # False where the patch was not computed: it was skipped, or the answer given before it


@dataclass(frozen=True)
class FrameSize:
    """The side in pixels at which a model read one frame; 0 if it skipped the frame."""

    frame: int
    time_s: float
    size: int


@dataclass(frozen=True)
class Prediction:
    """The answer for one video. status: partial if the file is damaged, refused if it could not be used.

    What a model chose is of the first clip of each window, in its centre crop.
    """

    video: str
    model: str
    trained_on: str = ""  # the data that the model has learnt from, in words
    duration_s: float = 0.0
    fps: float = 0.0
    status: Literal["ok", "partial", "refused"] = "ok"
    cause: str | None = None
    predictions: tuple[ClassScore, ...] = ()
    segments: tuple[Segment, ...] = ()
    cost: Cost = field(default_factory=Cost)
    timing_ms: dict[str, float] = field(default_factory=dict)
    clusters: tuple[Cluster, ...] = ()  # of a full-video model
    boxes: tuple[PatchBox, ...] = ()  # of a model that looks at patches
    sizes: tuple[FrameSize, ...] = ()  # of a model that chooses resolutions
    pathways: dict[str, tuple[int, ...]] = field(default_factory=dict)  # frames that each pathway read

    def to_dict(self, choices: bool = False) -> dict[str, Any]:
        """Plain data in the documented order; a file name that is not UTF-8 is shown with escapes.

        choices: with boxes, sizes and pathways, which have an entry for each frame.
        """
        data = {each.name: _plain(getattr(self, each.name)) for each in dataclasses.fields(Prediction)}
        for name in ("clusters", "boxes", "sizes", "pathways"):
            if not data[name] or (name != "clusters" and not choices):
                del data[name]
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
