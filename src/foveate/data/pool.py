"""Run a function over items in worker processes, so that a crash costs one item and not the run.

Each process works on one item at a time over a pipe of its own, and the parent knows which. So one that dies
or takes too long names its item, and another takes its place. Pools that share a queue, those of the standard
library and Pebble's, lose that knowledge where a process dies the moment it has taken an item.
"""

from __future__ import annotations

import ast
import math
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from foveate.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

GUARD = 'put the main part of the script under `if __name__ == "__main__":`, or use no workers'


@dataclass(frozen=True)
class Lost:
    """What stands in place of a result when the process did not live to give it."""

    cause: str  # in words, such as "killed by SIGKILL"


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    timeout_s: float = math.inf,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Result | Lost]:
    """`function` of every item, in the order of the items, computed in up to `workers` processes.

    Up to one worker is this process. A process that works on one item for more than `timeout_s` seconds is
    ended. An exception of the function is raised here. Function, items and results are pickled; processes
    start afresh, each with a call of `initializer`, so a script guards its main part: UsageError says so
    where it does not.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    check_guard("spawn")
    pool = [_Worker(function, initializer, timeout_s) for _ in range(min(workers, len(items)))]
    try:
        for worker in pool:
            worker.wait_until_ready()
        yield from _in_order(pool, items)
    finally:
        for worker in pool:
            worker.stop()


def _in_order(pool: Sequence[_Worker[Item, Result]], items: Sequence[Item]) -> Iterator[Result | Lost]:
    left = iter(enumerate(items))
    busy = [worker for worker in pool if worker.give_next(left)]
    results: dict[int, Result | Lost] = {}
    for number in range(len(items)):
        while number not in results:
            patience = min(worker.deadline for worker in busy) - time.monotonic()
            timeout = None if patience == math.inf else max(0, patience)
            ready = wait([worker.connection for worker in busy], timeout)
            for worker in [worker for worker in busy if worker.connection in ready or worker.is_late()]:
                results[worker.number] = worker.take()
                if not worker.give_next(left):
                    busy.remove(worker)
        yield results.pop(number)


class _Worker(Generic[Item, Result]):
    """A process and the item it works on; when the process dies, another one."""

    connection: Connection
    number: int  # of the item
    deadline: float  # by the monotonic clock

    def __init__(
        self, function: Callable[[Item], Result], initializer: Callable[[], None] | None, timeout_s: float
    ) -> None:
        self.function = function
        self.initializer = initializer
        self.timeout_s = timeout_s
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

    def give_next(self, left: Iterator[tuple[int, Item]]) -> bool:
        """Hand over the next item, if there is one."""
        for self.number, item in left:
            self.deadline = time.monotonic() + self.timeout_s
            with suppress(OSError):  # a dead process shows when its result is taken
                self.connection.send(item)
            return True
        return False

    def is_late(self) -> bool:
        return time.monotonic() >= self.deadline

    def take(self) -> Result | Lost:
        """The result, or what kept the process from giving one, which is then replaced."""
        if not self.connection.poll():
            self.stop()
            return self._replaced(f"no result within {self.timeout_s:g} s")
        try:
            done, value = self.connection.recv()
        except (EOFError, OSError):
            return self._replaced(self._end())
        if not done:
            raise value
        return value

    def _replaced(self, cause: str) -> Lost:
        self._start()
        self.wait_until_ready()
        return Lost(cause)

    def stop(self) -> None:
        self.process.kill()
        self._end()

    def _end(self) -> str:
        self.process.join()
        self.connection.close()
        return ending(self.process.exitcode or 0)


def ending(exit_code: int) -> str:
    """How a process ended, in words. exit_code: below 0 the number of a signal."""
    return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"


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
