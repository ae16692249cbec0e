"""Run a function over items in child processes, so that a crash costs one item and not the run.

Each child works on one item at a time and the parent knows which, so a child that dies names its item, and a
new one takes its place. A pool of the standard library would break as a whole and name nothing.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from foveate.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Died:
    """What stands in place of a result when the process did not live to give it."""

    cause: str


def map_in_children(
    function: Callable[[Item], Result], items: Sequence[Item], children: int, timeout_s: float
) -> Iterator[Result | Died]:
    """`function` of every item, in the order of the items, computed in up to `children` processes.

    A child that works on one item for more than `timeout_s` seconds is ended. An exception of the function
    is raised here. Function, items and results are pickled; children start afresh, so a script that calls
    this guards its main part, else UsageError says so.
    """
    crew = [_Child(function, timeout_s) for _ in range(min(children, len(items)))]
    try:
        for child in crew:
            child.greet()
        yield from _in_order(crew, items)
    finally:
        for child in crew:
            child.stop()


def _in_order(crew: Sequence[_Child[Item, Result]], items: Sequence[Item]) -> Iterator[Result | Died]:
    left = iter(enumerate(items))
    at_work = [child for child in crew if child.give_next(left)]
    ready: dict[int, Result | Died] = {}
    for number in range(len(items)):
        while number not in ready:
            patience = min(child.deadline for child in at_work) - time.monotonic()
            heard = wait([child.connection for child in at_work], max(0, patience))
            for child in [child for child in at_work if child.connection in heard or child.is_late()]:
                ready[child.number] = child.take()
                if not child.give_next(left):
                    at_work.remove(child)
        yield ready.pop(number)


class _Child(Generic[Item, Result]):
    """A process and the item it works on; when the process dies, another one."""

    connection: Connection
    number: int  # of the item
    deadline: float  # by the monotonic clock

    def __init__(self, function: Callable[[Item], Result], timeout_s: float) -> None:
        self.function = function
        self.timeout_s = timeout_s
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.function), daemon=True)
        self.process.start()
        theirs.close()  # theirs is then the only other end, and their death closes it

    def greet(self) -> None:
        """Wait until the process is ready, so that a failure to start is not blamed on a file."""
        try:
            self.connection.recv()
        except EOFError:
            hint = 'put the main part of the script under `if __name__ == "__main__":`, or use one worker'
            raise UsageError("workers", f"a worker process cannot start: {self._end()}", hint) from None

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

    def take(self) -> Result | Died:
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

    def _replaced(self, cause: str) -> Died:
        self._start()
        self.greet()
        return Died(cause)

    def stop(self) -> None:
        self.process.kill()
        self._end()

    def _end(self) -> str:
        self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """The main part of a child: results of items until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
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
