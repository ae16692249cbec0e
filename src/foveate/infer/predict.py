"""From a video file to a label: indices, frames, clip, model, logits. Follow `predict` from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.data.dataset import cause_of, frame_range
from foveate.data.lists import VideoEntry
from foveate.errors import DataError, UsageError
from foveate.infer.chunks import Chunks
from foveate.infer.clusters import Cluster, clusters_of, makes_clusters
from foveate.infer.looks import Look, looks_of
from foveate.infer.result import Guess, Prediction, Spent
from foveate.infer.windows import Window, cut, join
from foveate.measure.cost import count_macs
from foveate.models.base import VideoModel
from foveate.models.fullvideo import FullVideo
from foveate.video import Limits, Video, open_video
from foveate.video.sample import views
from foveate.video.transform import test_transform, to_clip
from foveate.weights.load import load_model

Source = str | Path | VideoEntry  # a video, or a part of one
MANY = 64  # frames; more of them are not held as floats for a model that reads bytes in chunks


class Predictor:
    """A model ready to name what videos show.

    top: classes to name. clips, crops: views of each window, whose logits are averaged. window: seconds for
    one label over time; 0 takes the video as one, None cuts videos longer than 20 s into windows of 5 s.
    Numbers that cannot be raise UsageError here, before any video is opened.
    """

    def __init__(
        self,
        model: VideoModel | str | Path,
        top: int = 5,
        clips: int = 1,
        crops: int = 1,
        window: float | None = None,
        device: str | torch.device = "cpu",
        limits: Limits | None = None,
    ) -> None:
        self.model = (load_model(model) if isinstance(model, str | Path) else model).to(device).eval()
        self.labels = self.model.labels or tuple(f"class {i}" for i in range(self.model.num_classes))
        self.top = min(top, self.model.num_classes)
        self.clips, self.crops = clips, crops
        self.window = window
        self.device = torch.device(device)
        self.limits = limits or Limits()
        self._macs: dict[tuple[int, ...], int] = {}  # of one view, by its shape
        self._rehearse()

    @torch.inference_mode()
    def _rehearse(self) -> None:
        """Run one black view: refuses what cannot be, learns the cost, warms PyTorch up."""
        if self.top < 1:
            raise UsageError("top", f"is {self.top}", "at least one class is named")
        if self.window and not 0.01 <= self.window < float("inf"):
            hint = "seconds for one label, from 0.01, or 0 for the whole video"
            raise UsageError("window", f"is {self.window} s", hint)
        spec = self.model.spec
        views(spec.frames, spec, self.clips)
        if self.crops > 1 and isinstance(self.model, FullVideo) and spec.sampling == "all":
            cause = f"{self.crops} crops of every frame of a video"
            raise UsageError("crops", cause, "ask for one: it is read chunk by chunk")
        frames = min(spec.frames, MANY) if isinstance(self.model, FullVideo) else spec.frames
        black = torch.zeros(frames, spec.resize, spec.resize, 3, dtype=torch.uint8)
        self._run(to_clip(test_transform(black, spec, self.crops)[:1], spec, self.device))

    def predict(self, source: Source) -> Prediction:
        """Name what one video shows. A file that cannot be used raises DataError; damage is in the status."""
        entry = source if isinstance(source, VideoEntry) else VideoEntry(str(source))
        watch = _Watch()
        with watch("decode"):
            video = open_video(entry.path, entry.template, self.limits)
        with video:
            seen = self._look_until_settled(entry, video, watch)
            info = video.info
            return Prediction(
                video=entry.path,
                model=self.model.name,
                duration_s=info.duration_s,
                fps=info.fps,
                status="partial" if video.damage else "ok",
                cause="; ".join(video.damage) or None,
                predictions=self._guesses(seen.logits.mean(0)),
                segments=join(seen.windows, self.model.probabilities(seen.logits), self.labels),
                cost=Spent(seen.macs / 1e9, video.frames_decoded, seen.frames, seen.patches),
                timing_ms=watch.milliseconds,
                clusters=tuple(seen.clusters),
                looks=tuple(seen.looks),
            )

    def predict_all(self, sources: Iterable[Source]) -> Iterator[Prediction]:
        """One prediction for each video, in order; a bad file gives one of status refused, not an error."""
        for source in sources:
            try:
                yield self.predict(source)
            except (DataError, OSError) as error:
                path = source.path if isinstance(source, VideoEntry) else str(source)
                yield Prediction(path, self.model.name, status="refused", cause=cause_of(error))

    def _look_until_settled(self, entry: VideoEntry, video: Video, watch: _Watch) -> _Seen:
        """Look, and look again where reading has shown that the video has fewer frames than it promised."""
        promised = video.info.frames
        try:
            seen = self._look(entry, video, watch)
        except DataError:
            if video.info.frames == promised:
                raise
        else:
            if video.info.frames == promised:
                return seen
        return self._look(entry, video, watch)

    @torch.inference_mode()
    def _look(self, entry: VideoEntry, video: Video, watch: _Watch) -> _Seen:
        """Every window through the model."""
        first, total = _part(entry, video)
        times, end = video.times, first + total
        end_s = float(times[end]) if end < len(times) else video.info.duration_s
        size = video.info.width, video.info.height
        seen = _Seen(cut(times[first:end], end_s, self.window))
        for window in seen.windows:
            indices = self._views(window.end - window.first, video.info.fps)
            wanted = [first + window.first + index for index in chain.from_iterable(indices)]
            trace, macs = self._run_on(video, wanted, watch)
            seen.add(trace, macs, _read(trace, wanted, self.crops))
            view, span = wanted[: len(indices[0])], (window.start_s, window.end_s)
            seen.looks += looks_of(trace, view, self.model.spec, *size, self.crops // 2)
            if makes_clusters(self.model):
                numbers = trace.assignment[0].tolist()
                seen.clusters += clusters_of(numbers, view, times, span, len(seen.clusters))
        return seen

    def _views(self, frames: int, fps: float) -> list[list[int]]:
        """Which of so many frames each view needs."""
        indices = views(frames, self.model.spec, self.clips, fps)
        if isinstance(self.model, FullVideo):
            return [[view[place] for place in self.model.looked_at(len(view))] for view in indices]
        return indices

    def _run_on(self, video: Video, places: list[int], watch: _Watch) -> tuple[Any, int]:
        """The trace of the views made of the frames at `places`, and its multiply-adds."""
        model = self.model
        if isinstance(model, FullVideo) and len(places) > MANY and self.crops == 1 and _rising(places):
            with watch("model"):
                return self._counted(model.trace_chunks, Chunks(video, places, model.spec, watch))
        with watch("decode"):
            frames = torch.from_numpy(video.read(places))  # (clips*T, H, W, C) uint8
        with watch("transform"):
            clip = self._to_clip(frames)  # (views, 3, T, S, S)
        with watch("model"):
            return self._run(clip)

    def _to_clip(self, frames: Tensor) -> Tensor:
        spec = self.model.spec
        crops = [test_transform(clip, spec, self.crops) for clip in frames.chunk(self.clips)]
        return to_clip(torch.cat(crops), spec, self.device)

    def _run(self, clip: Tensor) -> tuple[Any, int]:
        """The model's trace of a clip (views, 3, T, S, S) and its multiply-adds, counted as it runs.

        Counting slows a call down, so a number that cannot change is counted once.
        """
        shape = tuple(clip.shape[1:])
        if shape in self._macs:
            return self.model.trace(clip), len(clip) * self._macs[shape]
        trace, macs = self._counted(self.model.trace, clip)
        if not self.model.dynamic:
            self._macs[shape] = macs // len(clip)
        return trace, macs

    def _counted(self, call: Callable[[Any], Any], given: Any) -> tuple[Any, int]:
        """What a call returns, and its multiply-adds."""
        results: list[Any] = []
        cost = count_macs(self.model, given, call=lambda given: results.append(call(given)))
        return results[0], cost.total

    def _guesses(self, logits: Tensor) -> tuple[Guess, ...]:
        scores, indices = self.model.probabilities(logits).topk(self.top)
        ranked = enumerate(zip(indices.tolist(), scores.tolist(), strict=True), start=1)
        return tuple(Guess(rank, self.labels[index], index, score) for rank, (index, score) in ranked)


def predict(model: VideoModel | str | Path, path: str | Path, top: int = 5) -> Prediction:
    """What one video shows: `predict("model.safetensors", "video.mp4").predictions[0].label`."""
    return Predictor(model, top).predict(path)


def _part(entry: VideoEntry, video: Video) -> tuple[int, int]:
    """First frame and number of frames to look at; where a damaged video ends early, those that are left.

    Raises DataError if none is, or if a whole video has not the frames that the entry names.
    """
    first, total = frame_range(replace(entry, frames=None), video)
    left = min(total, video.info.frames - first)
    if left < 1 or (left < total and not video.damage):
        cause = f"frames {first} to {first + total} are asked for, and it has {video.info.frames}"
        raise DataError(entry.path, cause)
    return first, left


def _read(trace: Any, wanted: Sequence[int], crops: int) -> int:
    """How many different ones of the frames of all views were read; a dynamic model's trace says it."""
    if not hasattr(trace, "read"):
        return len(set(wanted))
    ran = trace.read.unflatten(0, (-1, crops)).any(1).flatten().tolist()  # of each clip, in any crop
    return len({place for place, read in zip(wanted, ran, strict=True) if read})


def _rising(places: Sequence[int]) -> bool:
    return all(before < after for before, after in pairwise(places))


@dataclass
class _Seen:
    """What came of looking at a video."""

    windows: list[Window]
    answers: list[Tensor] = field(default_factory=list)  # logits (classes,) of each window
    macs: int = 0
    frames: int = 0  # different ones that a network read
    patches: int = 0
    looks: list[Look] = field(default_factory=list)
    clusters: list[Cluster] = field(default_factory=list)

    def add(self, trace: Any, macs: int, frames: int) -> None:
        """The next window. trace: of its views, with `logits` (views, classes)."""
        self.answers.append(trace.logits.mean(0).float().cpu())
        self.macs += macs
        self.frames += frames
        self.patches += int(trace.looked.sum()) if hasattr(trace, "looked") else 0

    @property
    def logits(self) -> Tensor:
        """(windows, classes)."""
        return torch.stack(self.answers)


class _Watch:
    """Milliseconds spent in each named part of the work, a part within another one not counted in both."""

    def __init__(self) -> None:
        self.milliseconds = {"decode": 0.0, "transform": 0.0, "model": 0.0}
        self._parts: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._charge()
        self._parts.append(part)
        try:
            yield
        finally:
            self._charge()
            self._parts.pop()

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._parts:
            self.milliseconds[self._parts[-1]] += 1000 * (now - self._since)
        self._since = now
