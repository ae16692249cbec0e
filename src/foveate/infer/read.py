"""Read the clips of a video, as uint8 frames resized and cropped for a model.

A reader needs a `ClipSpec` and no network, and its results can be pickled, so that one process can read and
another run the model. Long videos are read in time windows, each with its own prediction, in constant memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, pairwise
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.data.dataset import cut_each, read_cut
from foveate.data.lists import VideoEntry
from foveate.data.stretch import frame_range
from foveate.errors import DataError, UsageError
from foveate.infer.late import LateClip, pays
from foveate.measure.stopwatch import Stopwatch
from foveate.models.base import Stops
from foveate.video import Limits, Video, open_video
from foveate.video.base import CHUNK
from foveate.video.sample import nearest, views
from foveate.video.transform import test_transform

LONG_S = 20.0  # longer videos are split into windows by default, seconds
WINDOW_S = 5.0  # length of these windows, seconds
CHUNK_ABOVE = 64  # frames; longer clips are read in chunks for a model that takes these
T = TypeVar("T")


@dataclass(frozen=True)
class VideoFacts:
    """Properties of a video after reading."""

    name: str
    duration_s: float
    fps: float
    width: int  # pixels
    height: int
    damage: tuple[str, ...]  # one line each
    frames_decoded: int  # including frames decoded to reach the requested ones


@dataclass(frozen=True)
class Window:
    """A time range of a video with one prediction: frames `first` to `end` (exclusive), `start_s` to `end_s`.

    clips: frame indices in the video of each of its clips. times: of the frames of the first clip, seconds.
    crops: per clip. keyframes: whether key frames stand for the frames of the sampling rule.
    """

    first: int
    end: int
    start_s: float
    end_s: float
    clips: tuple[tuple[int, ...], ...] = ()
    times: tuple[float, ...] = ()
    crops: int = 1
    keyframes: bool = False


@dataclass(frozen=True)
class VideoClips:
    """All clips of a video. frames: for each window, uint8 (clips x crops, T, S, S, 3)."""

    facts: VideoFacts
    windows: tuple[Window, ...]
    frames: tuple[Tensor, ...]
    timing_ms: dict[str, float]


class ReadVideo(Protocol):
    """A video that is being read; close it by leaving its `with` block."""

    name: str  # in messages: its path or URL, or what it is in angle brackets
    watch: Stopwatch

    def begin(self, send: Callable[[Any], Any] | None = None) -> Self:
        """Read the first window now; `send` begins to copy its clips to where the model runs."""
        ...

    def map(self, run: Callable[[Window, Any], T]) -> list[tuple[Window, T]]:
        """Apply `run` to each window and its clips; pairs (window, result) in temporal order."""
        ...

    def facts(self) -> VideoFacts:
        """Properties of the video, after `map`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Reader(Protocol):
    """What opens videos to read their clips: here, or in other processes (isolated.py)."""

    @property
    def ahead(self) -> int:
        """How many videos may be begun beside the one that is being answered."""
        ...

    def open(self, source: Any, fps: float | None = None, watch: Stopwatch | None = None) -> ReadVideo:
        """source: anything that `open_video` takes, or an entry of a list."""
        ...

    def close(self) -> None:
        """End what it holds; it opens nothing any more."""
        ...


class Chunks:
    """An iterable of the centre crops of a long clip, uint8 (k, S, S, 3) with up to 16 frames at a time.

    indices: increasing frame indices in the video. Each iteration decodes the video again. DecodeError if a
    frame does not exist.
    """

    def __init__(self, video: Video, indices: Sequence[int], spec: ClipSpec, watch: Stopwatch) -> None:
        self.video = video
        self.indices = indices
        self.spec = spec
        self.watch = watch

    def __iter__(self) -> Iterator[Tensor]:
        frames = self.video.iterate(self.indices)
        for _ in range(0, len(self.indices), CHUNK):
            with self.watch("decode"):
                crops = cut_each(islice(frames, CHUNK), self._crops)
            yield crops[0]

    def _crops(self, frames: Tensor) -> Tensor:
        with self.watch("transform"):
            return test_transform(frames, self.spec)


@dataclass(frozen=True)
class ClipReader:
    """Reads the clips of videos for a model with this `spec`.

    clips, crops: views of each window. window: its length in seconds; 0 makes one window of the video, None
    splits videos longer than 20 s into windows of 5 s. needed: which frames of a clip the model reads
    (`VideoModel.frames_needed`); None for all. in_chunks: whether the model takes long clips in chunks
    (`VideoModel.takes_chunks`). keyframes: read the key frame nearest to each frame in its place, which is
    inexact and several times as fast; a model of all frames gets each once. Of files that do not say which
    their key frames are, all frames are read. late: what the model reads before it chooses the others
    (`VideoModel.looks_late`), which are decoded after that where it saves some (late.py). Invalid numbers
    raise UsageError here.
    """

    spec: ClipSpec
    clips: int = 1
    crops: int = 1
    window: float | None = None
    needed: Callable[[int], list[int]] | None = None
    in_chunks: bool = False
    limits: Limits = field(default_factory=Limits)
    keyframes: bool = False
    late: Stops | None = None

    def __post_init__(self) -> None:
        if self.window and not 0.01 <= self.window < float("inf"):
            hint = "seconds for one label, from 0.01, or 0 for the whole video"
            raise UsageError("window", f"is {self.window} s", hint)
        if self.crops > 1 and self.spec.sampling == "all":
            cause = f"{self.crops} crops of every frame of a video"
            raise UsageError("crops", cause, "ask for one: it is read chunk by chunk")
        views(self.spec.frames, self.spec, self.clips)
        side = self.spec.resize
        test_transform(
            torch.zeros(1, side, side, self.spec.channels, dtype=torch.uint8), self.spec, self.crops
        )

    @property
    def ahead(self) -> int:
        """Two: each holds the clips of one window."""
        return 2

    def open(self, source: Any, fps: float | None = None, watch: Stopwatch | None = None) -> OpenedVideo:
        """Open a video for reading its windows.

        source: anything that `open_video` takes, or an entry of a list. fps: frame rate of frames in memory.
        watch: measures the time for "decode" and "transform". DataError for a source that cannot be read.
        """
        watch = watch or Stopwatch("decode", "transform")
        modality = self.spec.modality
        with watch("decode"):
            if isinstance(source, VideoEntry):
                entry, video = (
                    source,
                    open_video(source.path, source.template, self.limits, modality=modality),
                )
            else:
                video = open_video(source, limits=self.limits, fps=fps, modality=modality)
                entry = VideoEntry(video.info.name)
        return OpenedVideo(self, entry, video, watch)

    def close(self) -> None:
        """Nothing to end."""

    def read(self, source: Any, fps: float | None = None) -> VideoClips:
        """Read all windows at once, to pickle or to run later; arguments and errors as for `open`."""
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
        self.name = entry.path
        self.entry = entry
        self.video = video
        self.watch = watch
        self._begun: Iterator[tuple[Window, Any]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.video.close()

    def begin(self, send: Callable[[Any], Any] | None = None) -> Self:
        """Read the first window now, which `map` then finds done.

        send: begins to copy its clips to where the model runs (`Engine.send`).
        """
        expected, windows = self.video.info.frames, self.windows()
        try:
            window, frames = next(windows)
        except DataError:  # which `map` meets again, or the windows are others now
            return self
        if self.video.info.frames == expected:
            self._begun = chain([(window, send(frames) if send else frames)], windows)
        return self

    def facts(self) -> VideoFacts:
        """Properties of the video; damage and frames_decoded are those so far."""
        info, video = self.video.info, self.video
        shape = (info.duration_s, info.fps, info.width, info.height)
        return VideoFacts(self.entry.path, *shape, tuple(video.damage), video.frames_decoded)

    def map(self, run: Callable[[Window, Any], T]) -> list[tuple[Window, T]]:
        """Apply `run` to each window and its clips; pairs (window, result) in temporal order.

        run: takes a window, and uint8 (clips x crops, T, S, S, 3), `Chunks` or a `LateClip`. If reading shows
        that the video has another number of frames than expected, the windows are computed again and all are
        run again.
        """
        expected = self.video.info.frames
        windows, self._begun = self._begun or self.windows(), None
        try:
            pairs = [(window, run(window, frames)) for window, frames in windows]
        except DataError:
            if self.video.info.frames == expected:
                raise
        else:
            if self.video.info.frames == expected:
                return pairs
        return [(window, run(window, frames)) for window, frames in self.windows()]

    def windows(self) -> Iterator[tuple[Window, Tensor | Chunks | LateClip]]:
        """Yield each window and its clips, which are decoded when requested, in one pass where they rise."""
        planned = self._planned()
        places = [index for window in planned for index in chain.from_iterable(window.clips)]
        one_pass = len(planned) > 1 and _rising(places) and not any(map(self._chunked, planned))
        frames = self.video.iterate(places) if one_pass else None
        for window in planned:
            yield window, self._frames(window) if frames is None else self._next_frames(window, frames)

    def _planned(self) -> list[Window]:
        """All windows, with the frames that their clips show."""
        reader, video = self.reader, self.video
        first, total = frame_range(replace(self.entry, frames=None), video, cut_short=True)
        times, end = video.times, first + total
        end_s = float(times[end]) if end < len(times) else video.info.duration_s
        keys = self._keys(first, end)
        planned = []
        for part in cut(times[first:end], end_s, reader.window):
            start = first + part.first
            sampled = views(part.end - part.first, reader.spec, reader.clips, video.info.fps)
            indices = [self._readable([start + index for index in clip], keys) for clip in sampled]
            kept = [
                [clip[i] for i in reader.needed(len(clip))] if reader.needed else clip for clip in indices
            ]
            clips = tuple(tuple(clip) for clip in kept)
            seconds = tuple(times[list(clips[0])].tolist())
            window = replace(part, first=start, end=first + part.end, crops=reader.crops)
            planned.append(replace(window, clips=clips, times=seconds, keyframes=keys is not None))
        return planned

    def _keys(self, first: int, end: int) -> NDArray[np.int64] | None:
        """The key frames that stand for others, from the stretch itself if it has one; None without any."""
        keys = self.video.key_frames
        if not self.reader.keyframes or len(keys) == self.video.info.frames:
            return None
        inside = keys[(keys >= first) & (keys < end)]
        return inside if len(inside) else keys

    def _readable(self, clip: list[int], keys: NDArray[np.int64] | None) -> list[int]:
        """The frames of a clip, or the key frames that stand for them."""
        if keys is None:
            return clip
        near = nearest(clip, keys)
        return sorted({*near}) if self.reader.spec.sampling == "all" else near

    def _chunked(self, window: Window) -> bool:
        """Whether the model takes the clip of a window in chunks."""
        indices = [*chain.from_iterable(window.clips)]
        long = len(indices) > CHUNK_ABOVE and _rising(indices)
        return self.reader.in_chunks and window.crops == 1 and long

    def _late(self, window: Window, indices: Sequence[int]) -> bool:
        """Whether the frames of a window are decoded when the model asks for them."""
        stops, one = self.reader.late, window.crops * len(window.clips) == 1
        return bool(stops and one and _rising(indices) and pays(indices, self.video.key_frames, stops))

    def _frames(self, window: Window) -> Tensor | Chunks | LateClip:
        """The frames of the clips of one window, in all crops."""
        indices = [*chain.from_iterable(window.clips)]
        if self._chunked(window):
            return Chunks(self.video, indices, self.reader.spec, self.watch)
        if self._late(window, indices):
            return LateClip(self.video, indices, self.reader.spec, self.watch)
        with self.watch("decode"):
            return _by_clip(read_cut(self.video, indices, self._crops), window)

    def _next_frames(self, window: Window, frames: Iterator[NDArray[np.uint8]]) -> Tensor:
        """The same from a pass over the frames of all windows."""
        with self.watch("decode"):
            own = islice(frames, sum(map(len, window.clips)))
            return _by_clip(cut_each(own, self._crops), window)

    def _crops(self, frames: Tensor) -> Tensor:
        with self.watch("transform"):
            return test_transform(frames, self.reader.spec, self.reader.crops)


def _rising(indices: Sequence[int]) -> bool:
    return all(before < after for before, after in pairwise(indices))


def _by_clip(crops: Tensor, window: Window) -> Tensor:
    """From (crops, clips x T, S, S, C) to (clips x crops, T, S, S, C)."""
    return crops.unflatten(1, (len(window.clips), -1)).transpose(0, 1).flatten(0, 1)


def cut(times: NDArray[np.float64], end_s: float, seconds: float | None) -> list[Window]:
    """Split a video into windows of equal length, as near to `seconds` as possible; empty ones are left out.

    times: time of each frame in seconds, (frames,), non-decreasing. end_s: end of the last frame. seconds: 0
    makes one window; None makes one window up to 20 s and windows of 5 s for longer videos.
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


def keyframes_of(windows: Sequence[Window]) -> tuple[int, ...]:
    """Indices of the frames read, increasing, if key frames stood for others; else none."""
    frames = {frame for window in windows if window.keyframes for clip in window.clips for frame in clip}
    return tuple(sorted(frames))


def _in_memory(window: Window, frames: Tensor | Chunks | LateClip) -> Tensor:
    if isinstance(frames, LateClip):
        return frames.at(range(len(frames))).unsqueeze(0)
    return frames if isinstance(frames, Tensor) else torch.cat(list(frames)).unsqueeze(0)


def is_one(sources: Any) -> bool:
    """Whether what could be gone through is one source by itself: its letters, bytes or lines are none."""
    return isinstance(sources, str | bytes | os.PathLike | VideoEntry) or hasattr(sources, "read")


def name_of(source: Any) -> str:
    """The name of a source in results: its path or URL, or its type in angle brackets."""
    if isinstance(source, VideoEntry):
        return source.path
    return str(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"
