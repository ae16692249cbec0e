"""Read the clips of videos in child processes, with limits on time and memory, for files from strangers.

A decoder is a large program in C that a hostile file can crash, stall or take over. In a child process it
costs one file: the child is ended, another takes its place, and the file has a cause. Children send JSON and
pixels, never a pickle, so that one that was taken over cannot make the parent run anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from itertools import chain
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from foveate.data.pool import check_guard
from foveate.errors import DataError, FoveateError
from foveate.infer.child import AGAIN, CHECK, MOST_SAID, NEXT, Child, Death, Free, context
from foveate.infer.read import ClipReader, Reader, VideoFacts, Window, name_of
from foveate.infer.sent import MOST_SHOWN, facts_sent, number_sent, plausible, whole_sent, window_sent
from foveate.measure.stopwatch import Stopwatch
from foveate.models.base import VideoModel
from foveate.video import Limits
from foveate.video.source import read_all

T = TypeVar("T")
UNTRUSTED = Limits(max_pixels=4096 * 2304, max_frames=2_000_000, max_bytes=1 << 30)
SECONDS = 60.0  # for one video, of processor time, and of waiting for it
MEMORY = 1 << 30  # bytes that reading one video may take
MOST_SENT = 1 << 32  # bytes of the pixels of one message


def reader_for(
    model: VideoModel,
    clips: int = 1,
    crops: int = 1,
    window: float | None = None,
    limits: Limits | None = None,
    keyframes: bool = False,
    untrusted: bool = False,
) -> Reader:
    """A reader for a model; arguments as for `ClipReader`. untrusted: in child processes, with UNTRUSTED."""
    limits = limits or (UNTRUSTED if untrusted else Limits())
    needed, chunks = model.frames_needed, model.takes_chunks
    late = None if untrusted else model.looks_late
    reader = ClipReader(model.spec, clips, crops, window, needed, chunks, limits, keyframes, late)
    return IsolatedReader(reader, reader.ahead) if untrusted else reader


class IsolatedReader:
    """Reads as its `reader` does, in `children` child processes, one video at a time in each.

    seconds, memory: limits for one video, in bytes. A child that dies without having reached one of them may
    have been killed from outside, so its video is read once more before it has the blame. Close the reader or
    use it in a `with` block. UsageError where a child cannot start.
    """

    def __init__(
        self, reader: ClipReader, children: int = 1, seconds: float = SECONDS, memory: int = MEMORY
    ) -> None:
        check_guard(context().get_start_method())
        self.reader = reader
        self.ahead = children  # more would wait for a child that one of them holds
        self._children = [Child(seconds, memory) for _ in range(children)]
        self._free = Free()
        for child in self._children:
            child.wait_until_ready()
            self._free.put(child)

    def reading(self, reader: ClipReader) -> IsolatedReader:
        """The same children, which read as another reader does: for another model, or windows of another
        length."""
        other = copy(self)
        other.reader = reader
        return other

    def open(self, source: Any, fps: float | None = None, watch: Stopwatch | None = None) -> IsolatedVideo:
        """Have a child open a video, as soon as one is free; arguments as for `ClipReader.open`.

        What is wrong with it, a package missing for its address too, is a DataError when it is read.
        """
        name = name_of(source)
        if hasattr(source, "read"):  # which only this process can
            source = read_all(source, name, self.reader.limits)
        watch = watch or Stopwatch("decode", "transform")
        return IsolatedVideo(name, self._free, (self.reader, source, fps), watch, self.reader)

    def close(self) -> None:
        for child in self._children:
            child.end()
        self._free.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class IsolatedVideo:
    """A video that a child reads: an `OpenedVideo` in another process."""

    def __init__(self, name: str, free: Free, asked: Any, watch: Stopwatch, reader: ClipReader) -> None:
        self.name = name
        self.watch = watch
        self._free = free
        self._asked = asked
        self._reader = reader
        self._facts: VideoFacts | None = None
        self._windows = 0  # that the video has; more come where they had to be read again
        self._child: Child | None = free.get()
        self._frames = self._received()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        child, self._child = self._child, None
        if child is not None:
            if self._facts is None:  # it may be amid a window
                child.stop()
            self._free.put(child)

    def begin(self, send: Callable[[Any], Any] | None = None) -> Self:
        """Read the first window now; `send` begins to copy its clips to where the model runs."""
        try:
            first = next(self._frames, None)
        except FoveateError as error:
            self._frames = _raising(error)
        else:
            if first is not None:
                window, frames = first
                self._frames = chain([(window, send(frames) if send else frames)], self._frames)
        return self

    def facts(self) -> VideoFacts:
        """Properties of the video, after `map`."""
        assert self._facts is not None
        return self._facts

    def map(self, run: Callable[[Window, Any], T]) -> list[tuple[Window, T]]:
        """Apply `run` to each window and its clips, as `OpenedVideo.map` does."""
        pairs = []
        for window, frames in self._frames:
            with suppress(Death):  # amid chunks; the next step meets it again
                pairs.append((window, run(window, frames)))
        if not 1 <= self._windows <= len(pairs):
            raise self._nonsense("other windows than it sent")
        return pairs[-self._windows :]

    def _received(self) -> Iterator[tuple[Window, Any]]:
        """Each window and its clips as they come; all windows again if they had to be read again."""
        try:
            yield from self._asked_once()
        except Death as death:
            if not death.from_outside:
                raise self._blamed(death) from None
            try:
                yield from self._asked_once()
            except Death as again:
                raise self._blamed(again) from None

    def _asked_once(self) -> Iterator[tuple[Window, Any]]:
        child = self._child
        assert child is not None
        child.ask(self._asked)
        while (message := self._receive(child))["kind"] != "end":
            with self._understood():
                window = window_sent(message["window"])
            if message["kind"] == "chunks" and self._reader.in_chunks:
                yield window, _SentChunks(self, child)
                child.tell(NEXT)
            else:
                yield window, self._pixels(child, message)
        with self._understood():
            self._windows = whole_sent(message["windows"])
            self._facts = facts_sent(self.name, message["facts"])
            spent = {part: number_sent(message["timing"].get(part, 0.0)) for part in self.watch.milliseconds}
        for part, milliseconds in spent.items():
            self.watch.milliseconds[part] += milliseconds

    def _receive(self, child: Child) -> dict[str, Any]:
        with self._understood():
            message: dict[str, Any] = json.loads(child.receive(MOST_SAID))
            if message["kind"] != "error":
                return message
            said = [str(message[part])[:MOST_SHOWN] for part in ("subject", "cause", "hint")]
        self._facts = VideoFacts(self.name, 0.0, 0.0, 0, 0, (), 0)  # the child has finished with it
        raise DataError(*said)

    def _pixels(self, child: Child, message: dict[str, Any], chunk: bool = False) -> Tensor:
        with self._understood():
            shape = [int(size) for size in message["shape"]]
            if not plausible(shape, self._reader, chunk):
                raise ValueError("of other clips")
            pixels = np.frombuffer(bytearray(child.receive(min(math.prod(shape), MOST_SENT))), np.uint8)
            return torch.from_numpy(pixels.reshape(shape))

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """A message that cannot be one of `_serve` raises DataError: the child may have been taken over."""
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            raise self._nonsense("what is no answer") from error

    def _nonsense(self, sent: str) -> DataError:
        self._facts = None  # so that the child is not used again
        return DataError(self.name, f"reading it came to no end: its process sent {sent}", CHECK)

    def _blamed(self, death: Death) -> DataError:
        return DataError(self.name, f"reading it came to no end: {death}", CHECK)


class _SentChunks:
    """`Chunks` in another process: each iteration has them sent again."""

    def __init__(self, video: IsolatedVideo, child: Child) -> None:
        self.video = video
        self.child = child

    def __iter__(self) -> Iterator[Tensor]:
        self.child.tell(AGAIN)
        frames = 0
        while (message := self.video._receive(self.child))["kind"] != "stop":
            chunk = self.video._pixels(self.child, message, chunk=True)
            frames += len(chunk)
            if frames > self.video._reader.spec.frames:
                raise self.video._nonsense("more frames than there can be")
            yield chunk


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield  # a generator
