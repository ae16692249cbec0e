"""From a source to clips: what a model is to see of a video, as bytes cut to its size.

A reader knows a `ClipSpec` and nothing of networks, and what it gives can be pickled: one process may read
and another run. Long videos are read in windows, each answered by itself, so memory does not grow with them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, pairwise
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.data.dataset import read_cut
from foveate.data.lists import VideoEntry
from foveate.data.stretch import frame_range
from foveate.errors import DataError, UsageError
from foveate.measure.stopwatch import Stopwatch
from foveate.video import Limits, Video, open_video
from foveate.video.sample import views
from foveate.video.transform import test_transform

LONG_S = 20.0  # a longer video gets labels over time unless told otherwise
WINDOW_S = 5.0  # for each of them
MANY = 64  # frames of a clip; more of them are read in chunks by a model that takes these
T = TypeVar("T")


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video that has been read."""

    name: str
    duration_s: float
    fps: float
    width: int  # pixels
    height: int
    damage: tuple[str, ...]  # what was found broken, one line each
    frames_decoded: int  # with those on the way to the ones that were asked for


@dataclass(frozen=True)
class Window:
    """A stretch of a video that is answered as one: frames `first` to `end`, exclusive, and when it is shown.

    clips: the frames of each clip of it, by their number in the video. times: seconds at which the frames of
    the first clip are shown. crops: of each clip.
    """

    first: int
    end: int
    start_s: float
    end_s: float
    clips: tuple[tuple[int, ...], ...] = ()
    times: tuple[float, ...] = ()
    crops: int = 1


@dataclass(frozen=True)
class VideoClips:
    """A whole video read: the clips of each window, uint8 (clips x crops, T, S, S, C)."""

    facts: VideoFacts
    windows: tuple[Window, ...]
    frames: tuple[Tensor, ...]
    timing_ms: dict[str, float]


class Chunks:
    """The centre crops of a long clip, as uint8 (k, S, S, 3) of up to 16 frames at a time.

    places: rising positions in the video. Each pass decodes from the key frame before the first to the last.
    Raises DecodeError where the video ends before them.
    """

    def __init__(self, video: Video, places: Sequence[int], spec: ClipSpec, watch: Stopwatch) -> None:
        self.video = video
        self.places = places
        self.spec = spec
        self.watch = watch

    def __iter__(self) -> Iterator[Tensor]:
        chunks = self.video.chunks(self.places)
        while True:
            with self.watch("decode"):
                frames = next(chunks, None)
            if frames is None:
                return
            with self.watch("transform"):
                crops = test_transform(torch.from_numpy(frames), self.spec)[0]
            yield crops


@dataclass(frozen=True)
class ClipReader:
    """Reads what a model with this `spec` is to see of a video.

    clips, crops: views of each window. window: seconds of each; 0 takes the video as one, None cuts videos
    longer than 20 s into windows of 5 s. needed: of so many frames of a clip, the places of those that the
    model looks at (`VideoModel.frames_needed`); None for all. in_chunks: whether the model takes a long clip
    in chunks. Numbers that cannot be raise UsageError here, before any video is opened.
    """

    spec: ClipSpec
    clips: int = 1
    crops: int = 1
    window: float | None = None
    needed: Callable[[int], list[int]] | None = None
    in_chunks: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.window and not 0.01 <= self.window < float("inf"):
            hint = "seconds for one label, from 0.01, or 0 for the whole video"
            raise UsageError("window", f"is {self.window} s", hint)
        if self.crops > 1 and self.spec.sampling == "all":
            cause = f"{self.crops} crops of every frame of a video"
            raise UsageError("crops", cause, "ask for one: it is read chunk by chunk")
        views(self.spec.frames, self.spec, self.clips)
        side = self.spec.resize
        test_transform(torch.zeros(1, side, side, 3, dtype=torch.uint8), self.spec, self.crops)

    def open(self, source: Any, fps: float | None = None, watch: Stopwatch | None = None) -> OpenedVideo:
        """Open a source and find out what there is to read.

        source: whatever `open_video` takes, or a line of a list. fps: frames a second of frames in memory.
        DataError, which names the source, for one that cannot be read.
        """
        watch = watch or Stopwatch("decode", "transform")
        with watch("decode"):
            if isinstance(source, VideoEntry):
                entry, video = source, open_video(source.path, source.template, self.limits)
            else:
                video = open_video(source, limits=self.limits, fps=fps)
                entry = VideoEntry(video.info.name)
        return OpenedVideo(self, entry, video, watch)

    def read(self, source: Any, fps: float | None = None) -> VideoClips:
        """All windows of a source at once, to be pickled or run later; arguments and errors as of `open`."""
        with self.open(source, fps) as video:
            pairs = video.map(_in_memory)
            return VideoClips(
                video.facts(),
                tuple(window for window, _ in pairs),
                tuple(frames for _, frames in pairs),
                dict(video.watch.milliseconds),
            )


class OpenedVideo:
    """A video that is being read; close it or use it in a `with` block."""

    def __init__(self, reader: ClipReader, entry: VideoEntry, video: Video, watch: Stopwatch) -> None:
        self.reader = reader
        self.entry = entry
        self.video = video
        self.watch = watch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.video.close()

    def facts(self) -> VideoFacts:
        """What is known by now."""
        info, video = self.video.info, self.video
        shape = (info.duration_s, info.fps, info.width, info.height)
        return VideoFacts(self.entry.path, *shape, tuple(video.damage), video.frames_decoded)

    def map(self, run: Callable[[Any], T]) -> list[tuple[Window, T]]:
        """What `run` makes of the clips of each window, in order of time.

        run: takes uint8 (clips x crops, T, S, S, C), or `Chunks`. Where reading shows that the video has
        fewer frames than its header promised, the windows are cut anew and all of them are run again.
        """
        promised = self.video.info.frames
        try:
            pairs = [(window, run(frames)) for window, frames in self.windows()]
        except DataError:
            if self.video.info.frames == promised:
                raise
        else:
            if self.video.info.frames == promised:
                return pairs
        return [(window, run(frames)) for window, frames in self.windows()]

    def windows(self) -> Iterator[tuple[Window, Tensor | Chunks]]:
        """Each window and its clips, which are decoded when their turn comes."""
        reader, video = self.reader, self.video
        first, total = frame_range(replace(self.entry, frames=None), video, cut_short=True)
        times, end = video.times, first + total
        end_s = float(times[end]) if end < len(times) else video.info.duration_s
        for part in cut(times[first:end], end_s, reader.window):
            start = first + part.first
            indices = views(part.end - part.first, reader.spec, reader.clips, video.info.fps)
            kept = [
                [clip[i] for i in reader.needed(len(clip))] if reader.needed else clip for clip in indices
            ]
            clips = tuple(tuple(start + index for index in clip) for clip in kept)
            seconds = tuple(times[list(clips[0])].tolist())
            span = {"first": start, "end": first + part.end, "crops": reader.crops}
            yield replace(part, **span, clips=clips, times=seconds), self._frames(clips)

    def _frames(self, clips: Sequence[Sequence[int]]) -> Tensor | Chunks:
        """The views of the frames of some clips."""
        spec, crops = self.reader.spec, self.reader.crops
        places = [*chain.from_iterable(clips)]
        rising = all(before < after for before, after in pairwise(places))
        if self.reader.in_chunks and crops == 1 and len(places) > MANY and rising:
            return Chunks(self.video, places, spec, self.watch)
        with self.watch("decode"):
            shown = read_cut(
                self.video, places, partial(self._crops, spec, crops)
            )  # (crops, clips*T, S, S, C)
        return shown.unflatten(1, (len(clips), -1)).transpose(0, 1).flatten(0, 1)

    def _crops(self, spec: ClipSpec, crops: int, frames: Tensor) -> Tensor:
        with self.watch("transform"):
            return test_transform(frames, spec, crops)


def cut(times: NDArray[np.float64], end_s: float, seconds: float | None) -> list[Window]:
    """Windows of equal time, as near to `seconds` as they go into the whole; one without frames is left out.

    times: seconds at which each frame is shown, (frames,), never falling. end_s: when the last one ends.
    seconds: 0 makes one window; None makes one of up to 20 s of video and windows of 5 s of a longer one.
    """
    duration = end_s - float(times[0])
    if seconds is None:
        seconds = WINDOW_S if duration > LONG_S else 0.0
    count = max(1, round(duration / seconds)) if seconds > 0 else 1
    number = np.zeros(len(times)) if count == 1 else (times - times[0]) * (count / duration) // 1
    firsts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist()]
    edges = [*firsts, len(times)]
    shown = [*times[firsts].tolist(), end_s]
    return [Window(*frames, *span) for frames, span in zip(pairwise(edges), pairwise(shown), strict=True)]


def _in_memory(frames: Tensor | Chunks) -> Tensor:
    return frames if isinstance(frames, Tensor) else torch.cat(list(frames)).unsqueeze(0)


def name_of(source: Any) -> str:
    """How a source is called in results: its path or address, or what it is."""
    if isinstance(source, VideoEntry):
        return source.path
    return str(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"
