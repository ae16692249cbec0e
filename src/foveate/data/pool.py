"""Run a function over items in worker processes, so that a crash costs one item and not the run.

Each process works on one item at a time over a pipe of its own, and the parent knows which. So one that dies
or takes too long names its item, and another takes its place; what it had not begun goes on in that one.
Pools that share a queue, those of the standard library and Pebble's, lose that knowledge where a process dies
the moment it has taken an item.
"""

from __future__ import annotations

import ast
import math
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Generic, TypeVar

from foveate.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 8  # unless more are asked for
FITS = 1 << 14  # bytes
AHEAD = 2  # items that a process has at most: the one it works on and the next, where items are short
SHORT_S = 0.1  # a longer one would keep the next from a process that has nothing to do
GUARD = 'put the main part of the script under `if __name__ == "__main__":`, or use no workers'


@dataclass(frozen=True)
class Lost:
    """What stands in place of a result when the process did not live to give it."""

    cause: str  # in words, such as "killed by SIGKILL"


def processors() -> int:
    """How many this process may use."""
    able = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(able(0)) if able else os.cpu_count() or 1


def usual_workers() -> int:
    """One for each processor that this process may use, which it shares with the others of `torchrun`."""
    return max(1, min(MOST_WORKERS, processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    timeout_s: float = math.inf,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Result | Lost]:
    """`function` of every item, in the order of the items: the results of `map_as_they_come`."""
    results: dict[int, Result | Lost] = {}
    number = 0
    for arrived, result in map_as_they_come(function, items, workers, timeout_s, initializer):
        results[arrived] = result
        while number in results:
            yield results.pop(number)
            number += 1


def map_as_they_come(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    timeout_s: float = math.inf,
    initializer: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Result | Lost]]:
    """The number of every item and `function` of it, computed in up to `workers` processes, in any order.

    Up to one worker is this process. An item whose process dies is tried once more, in a new process, as it
    may have been killed for another reason; one that takes more than `timeout_s` seconds is not. An
    exception of the function is raised here. Function, items and results are pickled; processes start
    afresh, each with a call of `initializer`, so a script guards its main part: UsageError says so where it
    does not.
    """
    if workers <= 1:
        yield from enumerate(map(function, items))
        return
    check_guard("spawn")
    pool = [_Worker(function, initializer, timeout_s) for _ in range(min(workers, len(items)))]
    try:
        for worker in pool:
            worker.wait_until_ready()
        yield from _results(pool, items)
    finally:
        for worker in pool:
            worker.stop()


def _results(
    pool: Sequence[_Worker[Item, Result]], items: Sequence[Item]
) -> Iterator[tuple[int, Result | Lost]]:
    left = iter(enumerate(items))
    while True:
        for worker in pool:
            worker.fill(left)
        busy = [worker for worker in pool if worker.items]
        if not busy:
            return
        patience = min(worker.deadline for worker in busy) - time.monotonic()
        timeout = None if patience == math.inf else max(0, patience)
        ready = wait([worker.connection for worker in busy], timeout)
        for worker in [worker for worker in busy if worker.connection in ready or worker.is_late()]:
            yield from worker.take()


class _Worker(Generic[Item, Result]):
    """A process, the item it works on and the one it takes up next; when the process dies, another one."""

    connection: Connection
    began: float  # the time of the first item, by the monotonic clock

    def __init__(
        self, function: Callable[[Item], Result], initializer: Callable[[], None] | None, timeout_s: float
    ) -> None:
        self.function = function
        self.initializer = initializer
        self.timeout_s = timeout_s
        self.items: deque[tuple[int, bytes]] = deque()  # numbers and pickles of those without a result
        self.sent = 0  # how many of them
        self.ahead = 1  # how many it may have
        self.again = False  # whether the first of them has lost a process before
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
        self.connection, theirs = context.Pipe()
        arguments = theirs, self.function, self.initializer
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()  # theirs is then the only other end, and their death closes it

    def wait_until_ready(self) -> None:
        """Wait for the first sign of life, so that a failure to start is not blamed on a file."""
        try:
            self.connection.recv()
        except (EOFError, OSError):
            raise UsageError("workers", f"a worker process cannot start: {self._end()}", GUARD) from None

    def fill(self, left: Iterator[tuple[int, Item]]) -> None:
        """Hand over an item, or two short ones, so that the process need not wait for this one."""
        while len(self.items) < self.ahead and self.give_next(left):
            pass

    def give_next(self, left: Iterator[tuple[int, Item]]) -> bool:
        """Hand over the next item, if there is one."""
        for number, item in left:
            self.items.append((number, bytes(ForkingPickler.dumps(item))))
            if len(self.items) == 1:
                self.began = time.monotonic()
            self._send()
            return True
        return False

    def _send(self) -> None:
        """Send what can be sent: the first item, and those behind it that surely fit into the pipe.

        A large one could wait for a process that waits to be rid of a large result.
        """
        while self.sent < len(self.items) and (not self.sent or len(self.items[self.sent][1]) <= FITS):
            with suppress(OSError):  # a dead process shows when its result is taken
                self.connection.send_bytes(self.items[self.sent][1])
            self.sent += 1

    @property
    def deadline(self) -> float:
        return self.began + self.timeout_s

    def is_late(self) -> bool:
        return time.monotonic() >= self.deadline

    def take(self) -> Iterator[tuple[int, Result | Lost]]:
        """The result of the first item, or what kept the process from giving one, which is then replaced."""
        if not self.connection.poll():
            self.stop()
            yield self._first_lost(f"no result within {self.timeout_s:g} s")
            return
        try:
            done, value = self.connection.recv()
        except (EOFError, OSError):
            cause = self._end()
            if self.again:
                yield self._first_lost(cause)
            else:
                self._replace(again=True)
            return
        if not done:
            raise value
        yield self._first_done(), value

    def _first_done(self) -> int:
        """The number of the first item; the next one's time begins."""
        now = time.monotonic()
        self.ahead = AHEAD if now - self.began < SHORT_S else 1
        self.again, self.began = False, now
        number, _ = self.items.popleft()
        self.sent -= 1
        self._send()
        return number

    def _first_lost(self, cause: str) -> tuple[int, Lost]:
        number, _ = self.items.popleft()
        self._replace(again=False)
        return number, Lost(cause)

    def _replace(self, again: bool) -> None:
        """A new process takes the place of the dead one, and its items."""
        self._start()
        self.wait_until_ready()
        self.again, self.began = again, time.monotonic()
        self.sent = 0
        self._send()

    def stop(self) -> None:
        self.process.kill()
        self._end()

    def _end(self) -> str:
        self.process.join()
        self.connection.close()
        return ending(self.process.exitcode or 0)


def ending(exit_code: int) -> str:
    """How a process ended, in words. exit_code: below 0 the number of a signal."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    known = {each.value: each.name for each in signal.Signals}  # most real-time signals have no name
    return f"killed by {known.get(-exit_code, f'signal {-exit_code}')}"


def check_guard(method: str | None = None) -> None:
    """UsageError where worker processes would run the main script again, whose main part has no guard.

    method: how processes start; None for the one that is set. Where the script's text does not tell, workers
    find out: a process that imports the script and arrives here ends, and its parent, which then cannot start
    a worker, says so in one line.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)
    method = method or multiprocessing.get_start_method(allow_none=True)
    method = method or multiprocessing.get_all_start_methods()[0]  # asking further would settle it
    script = None if method == "fork" else _unguarded_script()
    if script:
        raise UsageError(
            "workers", f"each worker process would run {script.name} again from its first line", GUARD
        )


def _unguarded_script() -> Path | None:
    """The main script, if what it is running now does not stand under a test of `__name__`."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if file is None or (spec is not None and spec.name.endswith("__main__")):  # which is never run again
        return None
    frame = sys._getframe()
    while frame.f_globals is not vars(main) or frame.f_code.co_name != "<module>":
        if frame.f_back is None:  # a thread
            return None
        frame = frame.f_back
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    tests = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
    ]
    guarded = any(node.lineno <= frame.f_lineno <= (node.end_lineno or 0) for node in tests)
    return None if guarded else Path(file)


def _serve(
    connection: Connection, function: Callable[[Any], Any], initializer: Callable[[], None] | None
) -> None:
    """The main part of a worker: results of items until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    if initializer is not None:
        initializer()
    connection.send(None)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            result = function(item)
        except Exception as error:
            connection.send((False, error))
        else:
            connection.send((True, result))
