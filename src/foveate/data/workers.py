"""Worker processes that are watched: one that dies or hangs costs the file that it was reading, not the run.

A hostile video can crash or stall a decoder. PyTorch's loader then knows the number of a process; here every
worker writes what it reads into memory shared with the parent, so the file is known. What a batch holds is a
function of its items alone, so all workers are started again from the first batch that did not come.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from foveate.data.notes import IDLE, STARTING, Notes, Watch
from foveate.data.pool import GUARD, check_guard, ending
from foveate.errors import FoveateError, UsageError

log = logging.getLogger(__name__)

Item = tuple[int, ...]  # epoch, index of the entry; where the epoch has it again, for how many times by then
T = TypeVar("T")
POLL_S = 1.0  # how soon a dead worker is noticed
FILE_TIMEOUT_S = 300.0  # how long a worker may take for one file
NO_FILE = -1  # what a worker is lost on that reads nothing


class Source(Protocol):
    """A dataset whose entries can be given up."""

    given_up: dict[int, str]  # index and cause of entries that are never read again; an item says the cause

    def __getitem__(self, item: Item, /) -> Any: ...


class WatchedLoader(Generic[T]):
    """What `collate` makes of each batch of a dataset's items, in order, with `workers` processes (0: none).

    PyTorch gives each worker one thread. A worker that dies is started again with all others; the file on
    which one dies for the second time, or which is not read within `timeout_s` seconds of waiting for it, is
    given up. Raises FoveateError when workers are lost twice in a row on no file, UsageError when they cannot
    start, as in a script without a guard; an error of the dataset or of `collate` as it was raised.
    """

    def __init__(
        self,
        dataset: Source,
        paths: Sequence[str],
        items: Iterable[Item],
        collate: Callable[[list[Any]], T],
        batch: int = 1,
        drop_last: bool = False,
        workers: int = 0,
        timeout_s: float = FILE_TIMEOUT_S,
    ) -> None:
        self.dataset = dataset
        self.paths = paths
        self.collate = collate
        self.workers = workers
        self.timeout_s = timeout_s
        order = list(items)
        batches = [order[at : at + batch] for at in range(0, len(order), batch)]
        self._batches = [each for each in batches if len(each) == batch or not drop_last]
        self._notes = Notes(max(workers, 1))

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[T]:
        done, deaths = 0, Counter[int]()  # how often a worker died on an entry
        while True:
            self._notes.clear()
            batches, processes = _start(self._loader(self._batches[done:]))
            try:
                while isinstance(batch := self._next(batches, processes), _Made):
                    done, deaths[NO_FILE] = done + 1, 0
                    yield batch.value
            finally:  # the workers that still hear stop
                del batches
            if batch is None:
                return
            if isinstance(batch, Exception):
                raise batch
            for index in batch.indices or (NO_FILE,):
                deaths[index] += 1
                self._go_on(batch, index, deaths[index])

    def _loader(self, batches: Sequence[list[Item]]) -> DataLoader[Any]:
        return DataLoader(
            _NotingDataset(self.dataset, self._notes),
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_Collate(self.collate),
            timeout=POLL_S if self.workers else 0,
            generator=torch.Generator(),  # its own, so that loading draws nothing from the model's numbers
        )

    def _next(
        self, batches: Iterator[_Made[T] | Exception], processes: Sequence[BaseProcess]
    ) -> _Made[T] | Exception | _Loss | None:
        """The next batch, or what came instead; None at the end."""
        watch = Watch(self._notes, POLL_S)
        while True:
            try:
                return next(batches, None)
            except (RuntimeError, EOFError, OSError) as error:  # of the loader: a worker's come as values
                if not self.workers:
                    raise
                cut_off = not isinstance(error, RuntimeError)  # amid a batch, by a death not seen yet
                if cut_off:
                    _wait_for_a_death(processes)
                loss = self._death(processes) or self._hang(watch)
                if loss:
                    for process in processes:  # with the lost ones those that may wait for them
                        process.kill()
                    return loss
                if cut_off:
                    raise

    def _death(self, processes: Sequence[BaseProcess]) -> _Loss | None:
        """What workers that have ended were reading; UsageError if one never came to read."""
        codes = {process.pid: process.exitcode for process in processes if process.exitcode is not None}
        if not codes:  # those that ended before anyone looked are not among the processes
            early = len(processes) < self.workers
            return _Loss("a worker process died as it started") if early else None
        indices = self._notes.indices_of(codes)
        code = next(iter(codes.values()))
        if not indices and code > 0 and STARTING in self._notes.indices:
            raise UsageError("workers", "a worker process cannot start", GUARD)
        return _Loss(f"a worker process died: {ending(code)}", tuple(indices))

    def _hang(self, watch: Watch) -> _Loss | None:
        """What workers have been reading for too long, or that none of them has done anything."""
        late = watch.late(self.timeout_s)
        hung = tuple(index for index in late if index >= 0)
        if hung:
            return _Loss(f"not read within {self.timeout_s:g} s", hung, hung=True)
        none = len(late) == self.workers
        return _Loss(f"no batch came within {self.timeout_s:g} s") if none else None

    def _go_on(self, loss: _Loss, index: int, times: int) -> None:
        """Say what was lost; give up an entry the second time, or at once if it hangs."""
        if index == NO_FILE:
            if times > 1:
                raise FoveateError("workers", f"{loss.cause}, twice in a row", "use fewer --workers, or none")
            log.warning("workers: %s; they are started again", loss.cause)
        elif loss.hung or times > 1:
            self.dataset.given_up[index] = loss.cause
            log.warning("%s: %s; it is left out", self.paths[index], loss.cause)
        else:
            log.warning("%s: %s; it is read once more", self.paths[index], loss.cause)


@dataclass(frozen=True)
class _Made(Generic[T]):
    """A batch that came as it should."""

    value: T


@dataclass(frozen=True)
class _Loss:
    """A batch that will not come, and the entries that workers were lost on, if any."""

    cause: str
    indices: tuple[int, ...] = ()
    hung: bool = False


class _NotingDataset(Dataset[Any]):
    """A dataset that writes down, for the parent to see, which index each worker is reading.

    An error is an item, so that what the loader raises is always its own.
    """

    def __init__(self, dataset: Source, notes: Notes) -> None:
        self.dataset = dataset
        self.notes = notes

    def __getitem__(self, item: Item) -> Any:
        worker = get_worker_info()
        if worker is None:
            return self.dataset[item]
        self.notes.write(worker.id, item[1])
        try:
            return self.dataset[item]
        except Exception as error:
            return _with_traceback(error)
        finally:
            self.notes.write(worker.id, IDLE)


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


def _wait_for_a_death(processes: Sequence[BaseProcess]) -> None:
    """Wait until one has ended, if one does: its files close, and cut a batch off, before it has a code."""
    ended = wait([process.sentinel for process in processes], POLL_S)
    for process in processes:
        if process.sentinel in ended:
            process.join(POLL_S)


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
