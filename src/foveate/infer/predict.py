"""From a video to labels: read its clips, run the model, describe its output (`Predictor.predict`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.choices import Precision
from foveate.clip import ClipSpec
from foveate.data.dataset import cause_of
from foveate.errors import DataError, UsageError
from foveate.infer.ahead import ahead
from foveate.infer.budget import BudgetDial
from foveate.infer.engine import MAX_WARMUP_FRAMES, Engine, finite, open_engine
from foveate.infer.isolated import reader_for
from foveate.infer.output import ClassScore, Cluster, Cost, FrameSize, PatchBox, Prediction, Segment
from foveate.infer.read import (
    ReadVideo,
    VideoFacts,
    Window,
    is_one,
    keyframes_of,
    name_of,
)
from foveate.measure.stopwatch import Stopwatch
from foveate.models.base import ModelOutput, VideoModel
from foveate.models.budget import Budget
from foveate.video import Limits
from foveate.weights.load import model_of


class Predictor:
    """Predicts the classes of videos with a model.

    model: a model, the path of a model file, or an engine that runs one. top: number of classes in a
    prediction. clips, crops: views of each window, whose logits are averaged. window: seconds per label over
    time; 0 gives one label for the video, None splits videos longer than 20 s into windows of 5 s. device,
    engine, precision: what runs a model (infer/engine.py). limits: on resources for reading. measure: whether
    engine "auto" may take some seconds to measure. keyframes: read key frames alone, inexactly and fast
    (infer/read.py). untrusted: read in child processes with limits, for files from strangers
    (infer/isolated.py). budget: see `set_budget`. Invalid numbers raise UsageError.
    """

    def __init__(
        self,
        model: VideoModel | Engine | str | Path,
        top: int = 5,
        clips: int = 1,
        crops: int = 1,
        window: float | None = None,
        device: str | torch.device = "cpu",
        engine: str = "eager",
        precision: Precision | None = None,
        limits: Limits | None = None,
        measure: bool = True,
        keyframes: bool = False,
        untrusted: bool = False,
        budget: Budget | str | float | None = None,
    ) -> None:
        if top < 1:
            raise UsageError("top", f"is {top}", "it must be at least 1")
        if isinstance(model, VideoModel | str | Path):
            model = open_engine(model_of(model), engine, device, precision, measure)
        self.engine: Engine = model
        self.top = top
        self.clips = clips * crops
        self._dial: BudgetDial | None = None
        self._reader = partial(
            reader_for, self.engine.model, clips, crops, window, limits, keyframes, untrusted
        )
        if budget is not None:
            self._turn(budget)
        self.reader = self._reader()
        self._reads = self._needed()

    def set_budget(self, budget: Budget | str | float | None) -> float | None:
        """What a clip may cost from now on; returns the share of the model's full cost that it is set to.

        budget: a share of the full cost such as 0.3, multiply-adds of a clip such as "9G", a time such as
        "40ms" (of the model; reading comes on top), or None for the model as it was trained. Weights and
        compiled parts stay and it takes microseconds, after the first budget in milliseconds, so a server can
        call it before each prediction, in the thread that predicts, but not amid `predict_all`. UsageError
        for a budget that cannot be, or a model without a curve (`foveate budget` makes one).
        """
        share = self._turn(budget)
        if self._reads != self._needed():
            self.reader.close()
            self.reader, self._reads = self._reader(), self._needed()
        return share

    def _turn(self, budget: Budget | str | float | None) -> float | None:
        if self._dial is None and budget is None:
            return None
        if self._dial is None:
            self._dial = BudgetDial(self.engine)
        return self._dial.set(budget)

    def _needed(self) -> list[int]:
        """The frames of a clip that the model reads at its budget."""
        model = self.engine.model
        return model.frames_needed(min(model.spec.frames, MAX_WARMUP_FRAMES))

    def warmup(self) -> None:
        """Run on a black clip, so that the first video is not slowed by PyTorch's initialisation."""
        self.engine.warmup(self.clips)

    def predict(self, source: Any, fps: float | None = None) -> Prediction:
        """Predict the classes of one video.

        source: anything that `open_video` takes, or an entry of a list. fps: frame rate of frames in memory.
        DataError for a video that cannot be used; a damaged one has status "partial".
        """
        with self.reader.open(source, fps, _stopwatch()) as video:
            return self._answer(video)

    def predict_all(self, sources: Iterable[Any]) -> Iterator[Prediction]:
        """Yield a prediction for each video, in order; with status "refused" for a bad file, not an error.

        A path, bytes, an entry of a list or an open file by itself is one video. Of a list, the next videos
        are read while the model runs on one.
        """
        for source, video_of in ahead(
            self._begin, [sources] if is_one(sources) else sources, self.reader.ahead
        ):
            try:
                with video_of() as video:
                    result = self._answer(video)
            except (DataError, OSError) as error:
                hint = getattr(error, "hint", "")
                name, model = name_of(source), self.engine.model.name
                result = Prediction(name, model, status="refused", cause=cause_of(error), hint=hint)
            yield result

    def _begin(self, source: Any) -> ReadVideo:
        return self.reader.open(source, watch=_stopwatch()).begin(self.engine.send)

    def _answer(self, video: ReadVideo) -> Prediction:
        def run(_: Window, frames: Any) -> ModelOutput:
            with video.watch("model"):
                return finite(self.engine.run(frames), video.name)

        answers = video.map(run)
        return describe(self.engine.model, video.facts(), answers, self.top, video.watch.milliseconds)


def _stopwatch() -> Stopwatch:
    return Stopwatch("decode", "transform", "model")


def describe(
    model: VideoModel,
    video: VideoFacts,
    answers: Sequence[tuple[Window, ModelOutput]],
    top: int,
    timing_ms: dict[str, float],
) -> Prediction:
    """The prediction for a video from the outputs of its windows, with the `top` classes of highest score."""
    labels, sides = labels_of(model), (video.width, video.height)
    logits = torch.stack([output.logits.mean(0).float().cpu() for _, output in answers])  # (windows, classes)
    clusters: list[Cluster] = []
    for window, output in answers:
        clusters += clusters_of(window, output, len(clusters))
    return Prediction(
        video=video.name,
        model=model.name,
        trained_on=model.trained_on,
        duration_s=video.duration_s,
        fps=video.fps,
        status="partial" if video.damage else "ok",
        cause="; ".join(video.damage) or None,
        protocol=protocol([window for window, _ in answers]),
        predictions=ranked(model.probabilities(logits.mean(0)), labels, top),
        segments=join([window for window, _ in answers], model.probabilities(logits), labels),
        cost=_cost(video, answers),
        timing_ms=timing_ms,
        clusters=tuple(clusters),
        boxes=tuple(box for each in answers for box in boxes_of(*each, model.spec, sides)),
        sizes=tuple(size for each in answers for size in _sizes(*each)),
        pathways=_pathways(answers),
        frames=_frames(answers),
        keyframes=keyframes_of([window for window, _ in answers]),
    )


def labels_of(model: VideoModel) -> tuple[str, ...]:
    """The names of a model's classes; numbers for one that does not know them."""
    return model.labels or tuple(f"class {i}" for i in range(model.num_classes))


def protocol(windows: Sequence[Window]) -> str:
    """What the answers to a video are averaged over, in words: windows of time, clips and crops of each."""
    first = windows[0]
    clips, crops = len(first.clips), first.crops
    views = f"{clips} clip{'s' if clips > 1 else ''} x {crops} crop{'s' if crops > 1 else ''}"
    only = ", key frames only" if first.keyframes else ""
    if len(windows) == 1:
        return f"whole video, {views}{only}"
    seconds = (windows[-1].end_s - first.start_s) / len(windows)
    return f"{len(windows)} windows of {seconds:.3g} s, {views} each{only}"


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
    members = [list(group) for _, group in groupby(clusters, key=clusters.__getitem__)]
    starts = [window.start_s, *(times[group[0]] for group in members[1:])]
    ends = [*starts[1:], window.end_s]
    return [
        Cluster(start_s, end_s, len(group), number)
        for number, (group, start_s, end_s) in enumerate(zip(members, starts, ends, strict=True), start=first)
    ]


def _cost(video: VideoFacts, answers: Sequence[tuple[Window, ModelOutput]]) -> Cost:
    macs = frames = patches = 0
    for window, output in answers:
        assert output.macs is not None  # an engine runs in eval mode
        macs += int(output.macs.sum())
        patches += 0 if output.looked is None else int(output.looked.sum())
        read = output.frames_read.unflatten(0, (-1, window.crops)).any(1)  # of each clip, in any crop
        clips = zip(window.clips, read.tolist(), strict=True)
        frames += len({f for clip, mask in clips for f, was_read in zip(clip, mask, strict=True) if was_read})
    return Cost(macs / 1e9, video.frames_decoded, frames, patches)


def boxes_of(window: Window, output: ModelOutput, spec: ClipSpec, sides: tuple[int, int]) -> list[PatchBox]:
    """The patches of the first clip, from pixels of the centre crop to pixels of the video.

    sides: width and height of the video.
    """
    if output.boxes is None or output.looked is None:
        return []
    view = window.crops // 2
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


def _frames(answers: Sequence[tuple[Window, ModelOutput]]) -> tuple[int, ...]:
    """Frame indices in the video on which a network ran in the first clip of each window, sorted."""
    found: set[int] = set()
    for window, output in answers:
        read = output.frames_read[window.crops // 2].tolist()
        found.update(frame for frame, was_read in zip(window.clips[0], read, strict=True) if was_read)
    return tuple(sorted(found))
