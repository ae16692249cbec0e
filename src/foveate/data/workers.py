"""Worker processes that are watched: one that dies or hangs is reported with the file that it was reading.

A hostile video can crash or stall a decoder. PyTorch's loader then knows the number of a process; here every
worker writes what it reads into memory shared with the parent, so the error can name the file.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from foveate.data.pool import GUARD, check_guard, ending
from foveate.errors import DataError, FoveateError, UsageError

Item = tuple[int, ...]  # epoch, index of the entry; where the epoch has it again, for how many times by then
T = TypeVar("T")
POLL_S = 1.0  # how soon a dead worker is noticed
STARTING, IDLE = -2, -1  # notes of a worker that reads nothing


class WatchedLoader(Generic[T]):
    """What `collate` makes of each batch of a dataset's items, in order, with `workers` processes (0: none).

    PyTorch gives each worker one thread. Raises DataError, naming the file, when a worker dies or a batch
    does not come within `timeout_s` seconds; UsageError when workers cannot start, as in a script without a
    guard; an error of the dataset or of `collate` as it was raised.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        paths: Sequence[str],
        sampler: Sampler[Item],
        collate: Callable[[list[Any]], T],
        batch: int = 1,
        drop_last: bool = False,
        workers: int = 0,
        timeout_s: float = 300.0,
    ) -> None:
        self.paths = paths
        self.timeout_s = timeout_s
        self._notes = torch.full((max(workers, 1),), STARTING).share_memory_()
        self._loader = DataLoader(
            _NotingDataset(dataset, self._notes),
            batch_size=batch,
            sampler=sampler,
            num_workers=workers,
            collate_fn=_Collate(collate),
            drop_last=drop_last,
            timeout=POLL_S if workers else 0,
            generator=torch.Generator(),  # its own, so that loading draws nothing from the model's numbers
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[T]:
        self._notes.fill_(STARTING)
        batches, processes = _start(self._loader)
        try:
            while isinstance(batch := self._next(batches, processes), _Made):
                yield batch.value
        finally:
            # the workers that still hear stop and clear their notes; the note of a lost one stays
            del batches
        if isinstance(batch, Exception):
            raise batch
        if isinstance(batch, _Loss):
            raise self._error(batch)

    def _next(
        self, batches: Iterator[_Made[T] | Exception], processes: Sequence[BaseProcess]
    ) -> _Made[T] | Exception | _Loss | None:
        """The next batch, or what came instead; None at the end."""
        since = time.monotonic()
        while True:
            try:
                return next(batches, None)
            except (RuntimeError, EOFError, OSError) as error:  # of the loader: a worker's come as values
                if not processes:
                    raise
                cut_off = not isinstance(error, RuntimeError)  # amid a batch, by a death not seen yet
                if cut_off:
                    wait([process.sentinel for process in processes], POLL_S)
                ended = [process.exitcode for process in processes if process.exitcode is not None]
                if ended:
                    return _Loss(f"a worker process died on it: {ending(ended[0])}")
                if cut_off:
                    raise
            if time.monotonic() - since > self.timeout_s:
                return _Loss(f"not read within {self.timeout_s:g} s")

    def _error(self, loss: _Loss) -> FoveateError:
        notes = self._notes.tolist()
        names = [self.paths[index] for index in notes if index >= 0]
        if not names and STARTING in notes:
            return UsageError("workers", "a worker process cannot start", GUARD)
        hint = "check it with `foveate data check`, or take it off the list"
        return DataError(", ".join(names) or "a file not known", loss.cause, hint)


@dataclass(frozen=True)
class _Made(Generic[T]):
    """A batch that came as it should."""

    value: T


@dataclass(frozen=True)
class _Loss:
    """A batch that will never come."""

    cause: str


class _NotingDataset(Dataset[Any]):
    """A dataset that writes down, for the parent to see, which index each worker is reading.

    An error is an item, so that what the loader raises is always its own.
    """

    def __init__(self, dataset: Dataset[Any], notes: torch.Tensor) -> None:
        self.dataset = dataset
        self.notes = notes

    def __getitem__(self, item: Item) -> Any:
        worker = get_worker_info()
        if worker is None:
            return self.dataset[item]
        self.notes[worker.id] = item[1]
        try:
            return self.dataset[item]
        except Exception as error:
            return _with_traceback(error)
        finally:
            self.notes[worker.id] = IDLE


class _Collate(Generic[T]):
    """Collates items, and hands an error over as a value: PyTorch would rebuild it from one string."""

    def __init__(self, collate: Callable[[list[Any]], T]) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> _Made[T] | Exception:
        for sample in samples:
            if isinstance(sample, Exception):
                return sample
        try:
            return _Made(self.collate(samples))
        except Exception as error:
            return error if get_worker_info() is None else _with_traceback(error)


def _with_traceback(error: Exception) -> Exception:
    """The error as it can leave the process, with the lines of its traceback, which do not by themselves."""
    if isinstance(error, FoveateError):
        return error
    lines = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class makes of pickling
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a worker process:\n{lines}")
    return error


def _start(loader: DataLoader[Any]) -> tuple[Iterator[Any], list[BaseProcess]]:
    """Start the workers, without the signal handler that PyTorch sets with them.

    It raises in whatever code the parent runs when a child dies, such as a training step, where nobody can
    tell a lost file from a bug. The polling of `WatchedLoader` notices the death as well.
    """
    if loader.num_workers:
        check_guard()
    number = getattr(signal, "SIGCHLD", None)  # not on Windows
    handler = None if number is None else signal.getsignal(number)
    before = set(multiprocessing.active_children())
    try:
        batches = iter(loader)
    except (EOFError, ConnectionError) as error:  # of a fork server, which has run an unguarded script
        raise UsageError("workers", "a worker process cannot start", GUARD) from error
    processes = [child for child in multiprocessing.active_children() if child not in before]
    if number is not None and handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)
    return batches, processes
