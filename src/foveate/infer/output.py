"""Predictions: from the outputs of a model to labels, as printed in JSON by all commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.infer.read import VideoFacts, Window
from foveate.models.base import ModelOutput, VideoModel


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

    clusters, boxes, sizes and pathways are those of the first clip of each window, in its centre crop.
    """

    video: str
    model: str
    duration_s: float = 0.0
    fps: float = 0.0
    status: Literal["ok", "partial", "refused"] = "ok"
    cause: str | None = None
    predictions: tuple[ClassScore, ...] = ()
    segments: tuple[Segment, ...] = ()
    cost: Cost = field(default_factory=Cost)
    timing_ms: dict[str, float] = field(default_factory=dict)
    clusters: tuple[Cluster, ...] = ()  # of a full-video model
    boxes: tuple[PatchBox, ...] = ()  # of a model that processes patches
    sizes: tuple[FrameSize, ...] = ()  # of a model that chooses resolutions
    pathways: dict[str, tuple[int, ...]] = field(default_factory=dict)  # frame indices by pathway

    def to_dict(self, choices: bool = False) -> dict[str, Any]:
        """Convert to plain data for JSON; a file name that is not UTF-8 gets escapes.

        choices: include boxes, sizes and pathways, which have an entry for each frame.
        """
        data = dataclasses.asdict(self)
        for name in ("clusters", "boxes", "sizes", "pathways"):
            if not data[name] or (name != "clusters" and not choices):
                del data[name]
        data["video"] = self.video.encode("utf-8", "backslashreplace").decode()
        return data


def describe(
    model: VideoModel,
    video: VideoFacts,
    answers: Sequence[tuple[Window, ModelOutput]],
    top: int,
    timing_ms: dict[str, float],
) -> Prediction:
    """The prediction for a video from the outputs of its windows, with the `top` classes of highest score."""
    labels = model.labels or tuple(f"class {i}" for i in range(model.num_classes))
    logits = torch.stack([output.logits.mean(0).float().cpu() for _, output in answers])  # (windows, classes)
    clusters: list[Cluster] = []
    for window, output in answers:
        clusters += clusters_of(window, output, len(clusters))
    return Prediction(
        video=video.name,
        model=model.name,
        duration_s=video.duration_s,
        fps=video.fps,
        status="partial" if video.damage else "ok",
        cause="; ".join(video.damage) or None,
        predictions=ranked(model.probabilities(logits.mean(0)), labels, top),
        segments=join([window for window, _ in answers], model.probabilities(logits), labels),
        cost=_cost(video, answers),
        timing_ms=timing_ms,
        clusters=tuple(clusters),
        boxes=tuple(box for each in answers for box in _boxes(*each, model.spec, video)),
        sizes=tuple(size for each in answers for size in _sizes(*each)),
        pathways=_pathways(answers),
    )


def ranked(scores: Tensor, labels: Sequence[str], top: int) -> tuple[ClassScore, ...]:
    """The `top` classes with the highest scores (classes,), highest first."""
    best, indices = scores.topk(min(top, len(scores)))
    pairs = zip(indices.tolist(), best.tolist(), strict=True)
    return tuple(ClassScore(rank, labels[i], i, score) for rank, (i, score) in enumerate(pairs, start=1))


def join(windows: Sequence[Window], scores: Tensor, labels: Sequence[str]) -> tuple[Segment, ...]:
    """Merge neighbouring windows with the same top class into segments. scores: (windows, classes)."""
    best = scores.argmax(1).tolist()
    segments = []
    for index, group in groupby(range(len(windows)), key=best.__getitem__):
        run = list(group)
        start_s, end_s = windows[run[0]].start_s, windows[run[-1]].end_s
        score = float(scores[run, index].mean())
        segments.append(Segment(start_s, end_s, labels[index], index, score))
    return tuple(segments)


def clusters_of(window: Window, output: ModelOutput, first: int) -> list[Cluster]:
    """The clusters of a window, in temporal order; none if the clip wraps around at the end of the video.

    A repeated frame counts once, in its first cluster; clusters of repeated frames only are left out.
    first: index of the first cluster.
    """
    frames = window.clips[0]
    if output.clusters is None or any(before > after for before, after in pairwise(frames)):
        return []
    clusters: dict[int, int] = {}
    for frame, number in zip(frames, output.clusters[0].tolist(), strict=True):
        clusters.setdefault(frame, number)
    times = dict(zip(frames, window.times, strict=True))
    members = [list(own) for _, own in groupby(clusters, key=clusters.__getitem__)]
    starts = [window.start_s, *(times[own[0]] for own in members[1:])]
    ends = [*starts[1:], window.end_s]
    return [
        Cluster(start_s, end_s, len(own), number)
        for number, (own, start_s, end_s) in enumerate(zip(members, starts, ends, strict=True), start=first)
    ]


def _cost(video: VideoFacts, answers: Sequence[tuple[Window, ModelOutput]]) -> Cost:
    macs = frames = patches = 0
    for window, output in answers:
        assert output.macs is not None  # an engine runs in eval mode
        macs += int(output.macs.sum())
        patches += 0 if output.looked is None else int(output.looked.sum())
        read = output.frames_read.unflatten(0, (-1, window.crops)).any(1)  # of each clip, in any crop
        clips = zip(window.clips, read.tolist(), strict=True)
        frames += len({f for clip, own in clips for f, seen in zip(clip, own, strict=True) if seen})
    return Cost(macs / 1e9, video.frames_decoded, frames, patches)


def _boxes(window: Window, output: ModelOutput, spec: ClipSpec, video: VideoFacts) -> list[PatchBox]:
    """The patches of the first clip, from pixels of the centre crop to pixels of the video."""
    if output.boxes is None or output.looked is None:
        return []
    view = window.crops // 2
    sides = video.width, video.height
    scale = min(sides) / spec.resize  # pixels of the video for one of the resized frame
    left, top = ((side / scale - spec.size) / 2 for side in sides)
    boxes, looked = output.boxes[view].tolist(), output.looked[view].tolist()
    found = []
    for frame, time_s, (x0, y0, x1, y1), ran in zip(
        window.clips[0], window.times, boxes, looked, strict=True
    ):
        columns = [round(scale * (left + x)) for x in (x0, x1)]
        rows = [round(scale * (top + y)) for y in (y0, y1)]
        box = max(0, columns[0]), max(0, rows[0]), min(sides[0], columns[1]), min(sides[1], rows[1])
        found.append(PatchBox(frame, time_s, box, ran))
    return found


def _sizes(window: Window, output: ModelOutput) -> list[FrameSize]:
    if output.sizes is None:
        return []
    sizes = output.sizes[window.crops // 2].tolist()
    return [FrameSize(*each) for each in zip(window.clips[0], window.times, sizes, strict=True)]


def _pathways(answers: Sequence[tuple[Window, ModelOutput]]) -> dict[str, tuple[int, ...]]:
    """Frame indices in the video that each pathway read in the first clip of each window, sorted."""
    found: dict[str, set[int]] = {}
    for window, output in answers:
        for name, places in output.pathways.items():
            found.setdefault(name, set()).update(window.clips[0][place] for place in places)
    return {name: tuple(sorted(frames)) for name, frames in found.items()}
