"""Run a function over items in worker processes, so that a crash costs one item and not the run.

The pool is Pebble's: it knows which process works on which item, ends one that takes too long, and replaces
what was lost. A pool of the standard library breaks as a whole and names nothing.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from foveate.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 64  # items a worker that are handed out before the first of them is done
GUARD = 'put the main part of the script under `if __name__ == "__main__":`, or use no workers'


@dataclass(frozen=True)
class Lost:
    """What stands in place of a result when the process did not live to give it."""

    cause: str  # in words, such as "killed by SIGKILL"


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    timeout_s: float | None = None,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Result | Lost]:
    """`function` of every item, in the order of the items, computed in up to `workers` processes.

    Up to one worker is this process. A process that works on one item for more than `timeout_s` seconds is
    ended; None lets it go on. An exception of the function is raised here. Function, items and results are
    pickled; processes start afresh, each with a call of `initializer`, so a script guards its main part:
    UsageError says so where it does not.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    end_if_main_is_imported()
    workers = max(1, min(workers, len(items)))
    # spawned: a fork would copy the locks of other threads, such as PyTorch's
    pool = ProcessPool(workers, initializer=initializer, context=multiprocessing.get_context("spawn"))
    try:
        left = iter(items)
        running: deque[ProcessFuture] = deque()
        while True:
            for item in islice(left, workers * AHEAD - len(running)):
                running.append(pool.schedule(function, args=(item,), timeout=timeout_s))
            if not running:
                return
            yield _result(running.popleft(), timeout_s)
    finally:
        pool.stop()
        pool.join()


def _result(future: ProcessFuture, timeout_s: float | None) -> Any:
    """What a call gave, or Lost."""
    try:
        return future.result()
    except ProcessExpired as error:
        return Lost(ending(error.exitcode))
    except BrokenProcessPool as error:  # a process ended that had no item yet
        raise UsageError("workers", "a worker process cannot start", GUARD) from error
    except TimeoutError:
        return Lost(f"no result within {timeout_s:g} s")


def ending(exit_code: int) -> str:
    """How a process ended, in words. exit_code: below 0 the number of a signal."""
    return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"


def end_if_main_is_imported() -> None:
    """End a worker process that runs the main script anew, as it does where the script has no guard.

    Its parent, which then cannot start a worker, tells so in one line; here it would be a traceback.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)
