"""Read the clips of videos in child processes, with limits on time and memory, for files from strangers.

A decoder is a large program in C that a hostile file can crash, stall or take over. In a child process it
costs one file: the child is ended, another takes its place, and the file has a cause. Children send JSON and
pixels, never a pickle, so that one that was taken over cannot make the parent run anything.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from foveate.data.pool import GUARD, check_guard, ending
from foveate.errors import DataError, FoveateError, UsageError
from foveate.infer.read import Chunks, ClipReader, Reader, VideoFacts, Window, name_of
from foveate.measure.stopwatch import Stopwatch
from foveate.models.base import VideoModel
from foveate.video import Limits
from foveate.video.base import CHUNK
from foveate.video.source import read_all

T = TypeVar("T")
UNTRUSTED = Limits(max_pixels=4096 * 2304, max_frames=2_000_000, max_bytes=1 << 30)
SECONDS = 60.0  # for one video, of processor time, and of waiting for it
MEMORY = 1 << 30  # bytes that reading one video may take
MOST_SENT = 1 << 32  # bytes of the pixels of one message
MOST_SAID = 1 << 27  # bytes of one message in JSON, which names every frame of a window
MOST_SHOWN = 2000  # characters of a cause
START_S = 120.0  # for a child to start
ENDING_S = 10.0  # for a child to end that has closed its connection
CHECK = "check it with `foveate data check`, or take it off the list"


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
    reader = ClipReader(model.spec, clips, crops, window, needed, chunks, limits, keyframes)
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
        check_guard(_context().get_start_method())
        self.reader = reader
        self.ahead = children  # more would wait for a child that one of them holds
        self._children = [_Child(reader, seconds, memory) for _ in range(children)]
        self._free = _Free()
        for child in self._children:
            child.wait_until_ready()
            self._free.put(child)

    def open(self, source: Any, fps: float | None = None, watch: Stopwatch | None = None) -> IsolatedVideo:
        """Have a child open a video, as soon as one is free; arguments as for `ClipReader.open`.

        What is wrong with it shows when it is read.
        """
        name = name_of(source)
        if hasattr(source, "read"):  # which only this process can
            source = read_all(source, name, self.reader.limits)
        watch = watch or Stopwatch("decode", "transform")
        return IsolatedVideo(name, self._free, (source, fps), watch, self.reader)

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

    def __init__(self, name: str, free: _Free, asked: Any, watch: Stopwatch, reader: ClipReader) -> None:
        self.name = name
        self.watch = watch
        self._free = free
        self._asked = asked
        self._reader = reader
        self._facts: VideoFacts | None = None
        self._windows: list[Window] = []
        self._child: _Child | None = free.get()
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
                self._frames = chain([send(first) if send else first], self._frames)
        return self

    def facts(self) -> VideoFacts:
        """Properties of the video, after `map`."""
        assert self._facts is not None
        return self._facts

    def map(self, run: Callable[[Any], T]) -> list[tuple[Window, T]]:
        """Apply `run` to the clips of each window, as `OpenedVideo.map` does."""
        results = []
        for frames in self._frames:
            with suppress(_Death):  # amid chunks; the next step meets it again
                results.append(run(frames))
        if not 1 <= len(self._windows) <= len(results):
            raise self._nonsense("other windows than it sent")
        return list(zip(self._windows, results[len(results) - len(self._windows) :], strict=True))

    def _received(self) -> Iterator[Tensor | _SentChunks]:
        """The clips of each window as they come; of all windows again if they had to be read again."""
        try:
            yield from self._asked_once()
        except _Death as death:
            if not death.from_outside:
                raise self._blamed(death) from None
            try:
                yield from self._asked_once()
            except _Death as again:
                raise self._blamed(again) from None

    def _asked_once(self) -> Iterator[Tensor | _SentChunks]:
        child = self._child
        assert child is not None
        child.ask(self._asked)
        while (message := self._receive(child))["kind"] != "end":
            if message["kind"] == "chunks" and self._reader.in_chunks:
                yield _SentChunks(self, child)
                child.tell(NEXT)
            else:
                yield self._pixels(child, message)
        with self._understood():
            self._windows = [_window(window) for window in message["windows"]]
            self._facts = _facts(self.name, message["facts"])
            spent = {part: _number(message["timing"].get(part, 0.0)) for part in self.watch.milliseconds}
        for part, milliseconds in spent.items():
            self.watch.milliseconds[part] += milliseconds

    def _receive(self, child: _Child) -> dict[str, Any]:
        with self._understood():
            message: dict[str, Any] = json.loads(child.receive(MOST_SAID))
            if message["kind"] != "error":
                return message
            said = [str(message[part])[:MOST_SHOWN] for part in ("subject", "cause", "hint")]
            kind = UsageError if message["usage"] else DataError
        self._facts = VideoFacts(self.name, 0.0, 0.0, 0, 0, (), 0)  # the child has finished with it
        raise kind(*said)

    def _pixels(self, child: _Child, message: dict[str, Any], chunk: bool = False) -> Tensor:
        with self._understood():
            shape = [int(size) for size in message["shape"]]
            if not _plausible(shape, self._reader, chunk):
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

    def _blamed(self, death: _Death) -> DataError:
        return DataError(self.name, f"reading it came to no end: {death}", CHECK)


class _SentChunks:
    """`Chunks` in another process: each iteration has them sent again."""

    def __init__(self, video: IsolatedVideo, child: _Child) -> None:
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


class _Free:
    """Children without a video, handed over in the order of asking.

    In any other, the video whose answer is waited for could wait for a child behind later ones, which keep
    theirs until it is answered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: deque[_Child] = deque()
        self._waiting: deque[Future[_Child]] = deque()

    def get(self) -> _Child:
        with self._lock:
            turn = Future[_Child]()
            self._waiting.append(turn)
            self._hand_over()
        return turn.result()

    def put(self, child: _Child) -> None:
        with self._lock:
            self._children.append(child)
            self._hand_over()

    def close(self) -> None:
        """Nobody waits for a child any more: UsageError there."""
        with self._lock:
            while self._waiting:
                self._waiting.popleft().set_exception(UsageError("reader", "is closed", "open another"))

    def _hand_over(self) -> None:
        while self._children and self._waiting:
            self._waiting.popleft().set_result(self._children.popleft())


class _Death(Exception):
    """A child that will send nothing more. from_outside: it need not be the fault of its video."""

    def __init__(self, cause: str, from_outside: bool) -> None:
        super().__init__(cause)
        self.from_outside = from_outside


AGAIN, NEXT = b"again", b"next"  # what the parent says to a child that offers chunks


class _Child:
    """A process that reads videos one by one; started again when it has died."""

    def __init__(self, reader: ClipReader, seconds: float, memory: int) -> None:
        self.reader = reader
        self.seconds = seconds
        self.memory = memory
        self.ended = False
        self._start()

    def _start(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        arguments = theirs, self.reader, self.seconds, self.memory
        self.process = _context().Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.waited = 0.0

    def wait_until_ready(self) -> None:
        """Wait for the first sign of life, so that a failure to start is not blamed on a file."""
        try:
            with self._killed_after(START_S):
                self.connection.recv_bytes(MOST_SAID)
        except (EOFError, OSError):
            cause = f"a process for reading cannot start: {ending(self._exit_code())}"
            raise UsageError("workers", cause, GUARD) from None

    def ask(self, asked: Any) -> None:
        if self.ended:
            raise UsageError("reader", "is closed", "open another")
        if not self.process.is_alive():
            self._start()
            self.wait_until_ready()
        since = time.monotonic()
        with suppress(OSError), self._killed_after(self.seconds):
            self.connection.send(asked)  # a death shows when an answer is waited for
        self.waited = time.monotonic() - since

    def tell(self, word: bytes) -> None:
        with suppress(OSError):
            self.connection.send_bytes(word)

    def receive(self, most: int) -> bytes:
        """The next message, of up to `most` bytes. _Death if none will come, or the time for this video is
        over."""
        since, left = time.monotonic(), self.seconds - self.waited
        try:
            with self._killed_after(left):
                return self.connection.recv_bytes(most)
        except (EOFError, OSError):
            late = time.monotonic() - since >= left
            code = self._exit_code()
            if late or code == -getattr(signal, "SIGXCPU", math.inf):
                raise _Death(f"not read within {self.seconds:g} s", from_outside=False) from None
            raise _Death(ending(code), code in (0, -signal.SIGTERM, -getattr(signal, "SIGKILL", 9))) from None
        finally:
            self.waited += time.monotonic() - since

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """Kill the process if the block takes longer: one that is stopped amid a message never ends it."""
        timer = threading.Timer(min(max(0.0, seconds), threading.TIMEOUT_MAX), self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _exit_code(self) -> int:
        """How the process ended, which has closed the connection and is given a moment to end by itself."""
        self.process.join(ENDING_S)
        self.process.kill()
        self.process.join()
        return self.process.exitcode or 0

    def end(self) -> None:
        """Stop it, and start none in its place."""
        self.ended = True
        self.stop()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _context() -> Any:
    """How children start: as copies of a process that has imported what they need, where there is such."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # no effect on one that runs
    return context


def _serve(connection: Connection, reader: ClipReader, seconds: float, memory: int) -> None:
    """The main part of a child: videos until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    torch.set_num_threads(1)
    _limit(memory)
    connection.send_bytes(b"ready")
    with suppress(EOFError, OSError):
        while True:
            source, fps = connection.recv()
            _limit_seconds(seconds)
            if not _read(connection, reader, source, fps, memory):
                return  # memory was short, and pieces of it may be lost


def _read(connection: Connection, reader: ClipReader, source: Any, fps: float | None, memory: int) -> bool:
    """Send the clips of a video and what was found, or why not; whether there was memory for it."""
    enough = True
    message: dict[str, Any]
    try:
        with reader.open(source, fps) as video:
            pairs = video.map(partial(_hand_over, connection))
            windows, facts = [asdict(window) for window, _ in pairs], asdict(video.facts())
            message = {"kind": "end", "windows": windows, "facts": facts, "timing": video.watch.milliseconds}
    except FoveateError as error:
        usage = isinstance(error, UsageError)
        message = {"subject": error.subject, "cause": error.cause, "hint": error.hint, "usage": usage}
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        enough = not (isinstance(error, MemoryError) or "allocate memory" in str(error))
        cause = f"reading it fails: {type(error).__name__}: {error}"
        cause = cause if enough else f"reading it takes more than {memory >> 20} MB"
        message = {"subject": name_of(source), "cause": cause, "hint": CHECK, "usage": False}
    connection.send_bytes(json.dumps({"kind": "error", **message}).encode())
    return enough


def _hand_over(connection: Connection, frames: Tensor | Chunks) -> None:
    """Send the clips of one window; chunks as often as they are wanted."""
    if isinstance(frames, Tensor):
        _send(connection, {"kind": "frames", "shape": frames.shape}, frames)
        return
    _send(connection, {"kind": "chunks"})
    while connection.recv_bytes() == AGAIN:
        for chunk in frames:
            _send(connection, {"kind": "frames", "shape": chunk.shape}, chunk)
        _send(connection, {"kind": "stop"})


def _send(connection: Connection, message: dict[str, Any], frames: Tensor | None = None) -> None:
    connection.send_bytes(json.dumps(message).encode())
    if frames is not None:
        connection.send_bytes(frames.contiguous().numpy().reshape(-1).data)


def _limit(memory: int) -> None:
    """Limits that hold for all videos: more memory than now, and no files written."""
    try:
        import resource
    except ImportError:  # Windows has none of these limits
        return
    status = Path("/proc/self/status")
    if status.exists():
        sizes = dict(line.split(":", 1) for line in status.read_text().splitlines())
        now = int(sizes["VmData"].split()[0]) << 10
        resource.setrlimit(resource.RLIMIT_DATA, (now + memory, now + memory))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))


def _limit_seconds(seconds: float) -> None:
    """Let the processor time from now on be the most that the next video may take."""
    try:
        import resource
    except ImportError:
        return
    if math.isfinite(seconds):
        most = math.ceil(time.process_time() + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _plausible(shape: list[int], reader: ClipReader, chunk: bool) -> bool:
    """Whether `reader` can have cut clips of this shape: (clips x crops, T, S, S, 3), or (k, S, S, 3)."""
    spec = reader.spec
    views, most = reader.clips * reader.crops, spec.frames
    if chunk:
        return 1 <= shape[0] <= CHUNK and shape[1:] == [spec.size, spec.size, 3]
    kept = len(reader.needed(most)) if reader.needed else most
    frames = range(1, most + 1) if spec.sampling == "all" else (kept,)
    return shape[0] == views and shape[1] in frames and shape[2:] == [spec.size, spec.size, 3]


def _window(sent: dict[str, Any]) -> Window:
    clips = tuple(tuple(map(_whole, clip)) for clip in sent["clips"])
    first, end, crops = (_whole(sent[name]) for name in ("first", "end", "crops"))
    start_s, end_s = _number(sent["start_s"]), _number(sent["end_s"])
    times = tuple(map(_number, sent["times"]))
    return Window(first, end, start_s, end_s, clips, times, crops, bool(sent["keyframes"]))


def _facts(name: str, sent: dict[str, Any]) -> VideoFacts:
    duration_s, fps = _number(sent["duration_s"]), _number(sent["fps"])
    width, height, decoded = (_whole(sent[name]) for name in ("width", "height", "frames_decoded"))
    damage = tuple(str(line)[:MOST_SHOWN] for line in sent["damage"])
    return VideoFacts(name, duration_s, fps, width, height, damage, decoded)


def _number(sent: Any) -> float:
    """A finite number that was sent; ValueError or TypeError for anything else."""
    if not math.isfinite(number := float(sent)):
        raise ValueError(number)
    return number


def _whole(sent: Any) -> int:
    """A whole number of 63 bits that was sent; ValueError or TypeError for anything else."""
    if not 0 <= (number := int(sent)) < 1 << 63:
        raise ValueError(number)
    return number


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield  # a generator
