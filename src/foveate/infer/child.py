"""Child processes that read videos: what runs in one, and how its parent starts, asks and ends it."""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.data.pool import GUARD, ending
from foveate.errors import FoveateError, UsageError
from foveate.infer.read import Chunks, ClipReader, Window, name_of

MOST_SAID = 1 << 27  # bytes of one message in JSON, which names every frame of a window
START_S = 120.0  # for a child to start
SERVER_S = 30.0  # for the process that starts children, where it was killed, to be replaced
ENDING_S = 10.0  # for a child to end that has closed its connection
# 255: the process that starts children has died, and how this one ended is not known
FROM_OUTSIDE = (0, 255, -signal.SIGTERM, -getattr(signal, "SIGKILL", 9))
CHECK = "check it with `foveate data check`, or take it off the list"
AGAIN, NEXT = b"again", b"next"  # what the parent says to a child that offers chunks


class Death(Exception):
    """A child that will send nothing more. from_outside: it need not be the fault of its video."""

    def __init__(self, cause: str, from_outside: bool) -> None:
        super().__init__(cause)
        self.from_outside = from_outside


class Child:
    """A process that reads videos one by one; started again when it has died."""

    def __init__(self, seconds: float, memory: int) -> None:
        self.seconds = seconds
        self.memory = memory
        self.ended = False
        self._start()

    def _start(self) -> None:
        """Start the process; again where the one that starts them was killed a moment ago.

        Python sees that one as alive until the system has taken it off its list, and replaces it after that.
        """
        until = time.monotonic() + SERVER_S
        try:
            while not self._started():
                if time.monotonic() > until:
                    raise ConnectionError("what starts it has ended")
                time.sleep(0.01)
        except OSError as error:  # of the machine, such as too many open files: no video is to blame
            cause = f"a process for reading cannot start: {(error.strerror or str(error)).lower()}"
            raise UsageError("workers", cause, "use fewer --workers") from error
        self.waited = 0.0

    def _started(self) -> bool:
        self.connection, theirs = multiprocessing.Pipe()
        arguments = theirs, self.seconds, self.memory
        self.process = context().Process(target=serve, args=arguments, daemon=True)
        try:
            self.process.start()
        except (ConnectionError, EOFError):
            self.connection.close()
            return False
        finally:
            theirs.close()
        return True

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
        """The next message, of up to `most` bytes. Death if none will come, or the time for this video is
        over."""
        since, left = time.monotonic(), self.seconds - self.waited
        try:
            with self._killed_after(left):
                return self.connection.recv_bytes(most)
        except (EOFError, OSError):
            late = time.monotonic() - since >= left
            code = self._exit_code()
            if late or code == -getattr(signal, "SIGXCPU", math.inf):
                raise Death(f"not read within {self.seconds:g} s", from_outside=False) from None
            raise Death(ending(code), code in FROM_OUTSIDE) from None
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
        if self.process.pid is not None:  # it has started
            self.process.kill()
            self.process.join()
        self.connection.close()


class Free:
    """Children without a video, handed over in the order of asking.

    In any other, the video whose answer is waited for could wait for a child behind later ones, which keep
    theirs until it is answered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: deque[Child] = deque()
        self._waiting: deque[Future[Child]] = deque()

    def get(self) -> Child:
        with self._lock:
            turn = Future[Child]()
            self._waiting.append(turn)
            self._hand_over()
        return turn.result()

    def put(self, child: Child) -> None:
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


def context() -> Any:
    """How children start: as copies of a process that has imported what they need, where there is such."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # no effect on one that runs
    return context


def serve(connection: Connection, seconds: float, memory: int) -> None:
    """The main part of a child: videos until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    torch.set_num_threads(1)
    _limit(memory)
    connection.send_bytes(b"ready")
    with suppress(EOFError, OSError):
        while True:
            reader, source, fps = connection.recv()
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
            facts, timing = asdict(video.facts()), video.watch.milliseconds
            message = {"kind": "end", "windows": len(pairs), "facts": facts, "timing": timing}
    except FoveateError as error:
        message = {"subject": error.subject, "cause": error.cause, "hint": error.hint}
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        enough = not (isinstance(error, MemoryError) or "allocate memory" in str(error))
        cause = f"reading it fails: {type(error).__name__}: {error}"
        cause = cause if enough else f"reading it takes more than {memory >> 20} MB"
        message = {"subject": name_of(source), "cause": cause, "hint": CHECK}
    connection.send_bytes(json.dumps({"kind": "error", **message}).encode())
    return enough


def _hand_over(connection: Connection, window: Window, frames: Tensor | Chunks) -> None:
    """Send one window and its clips; chunks as often as they are wanted."""
    message = {"window": asdict(window)}
    if isinstance(frames, Tensor):
        _send(connection, message | {"kind": "frames", "shape": frames.shape}, frames)
        return
    _send(connection, message | {"kind": "chunks"})
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
