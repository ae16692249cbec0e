"""Worker processes that are watched: one that dies or hangs is reported with the file that it was reading.

A hostile video can crash or stall a decoder. PyTorch's loader then knows the number of a process; here every
worker writes what it reads into memory shared with the parent, so the error can name the file.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from foveate.errors import DataError, FoveateError

Item = tuple[int, int]  # epoch, index of the entry
T = TypeVar("T")
POLL_S = 1.0  # how soon a dead worker is noticed


class WatchedLoader(Generic[T]):
    """What `collate` makes of each batch of a dataset's items, in order, with `workers` processes (0: none).

    PyTorch gives each worker one thread. Raises DataError, naming the file, when a worker dies or a batch
    does not come within `timeout_s` seconds; a FoveateError of `collate` arrives as it was raised.
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
        self._reading = torch.full((max(workers, 1),), -1).share_memory_()
        self._loader = DataLoader(
            _Noting(dataset, self._reading),
            batch_size=batch,
            sampler=sampler,
            num_workers=workers,
            collate_fn=_Carrying(collate),
            drop_last=drop_last,
            timeout=POLL_S if workers else 0,
            generator=torch.Generator(),  # its own, so that loading draws nothing from the model's numbers
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[T]:
        self._reading.fill_(-1)
        batches = _start(self._loader)
        try:
            while isinstance(batch := self._next(batches), _Made):
                yield batch.value
        finally:
            # the workers that still hear stop and clear their notes; the note of a lost one stays
            del batches
        if isinstance(batch, FoveateError):
            raise batch
        if isinstance(batch, _Lost):
            raise self._named(batch)

    def _next(self, batches: Iterator[_Made[T] | FoveateError]) -> _Made[T] | FoveateError | _Lost | None:
        """The next batch, or what came instead; None at the end."""
        since = time.monotonic()
        while True:
            try:
                return next(batches, None)
            except RuntimeError as error:
                message = str(error)
                if not message.startswith("DataLoader"):
                    raise
            if not message.startswith("DataLoader timed out"):
                return _Lost("a worker process died on it")
            if time.monotonic() - since > self.timeout_s:
                return _Lost(f"not read within {self.timeout_s:g} s")

    def _named(self, lost: _Lost) -> DataError:
        names = [self.paths[index] for index in self._reading.tolist() if index >= 0]
        hint = "check it with `foveate data check`, or take it off the list"
        return DataError(", ".join(names) or "a file not known", lost.cause, hint)


@dataclass(frozen=True)
class _Made(Generic[T]):
    """A batch that came as it should."""

    value: T


@dataclass(frozen=True)
class _Lost:
    """A batch that will never come."""

    cause: str


class _Noting(Dataset[Any]):
    """A dataset that writes down, for the parent to see, which index each worker is reading; -1 is none."""

    def __init__(self, dataset: Dataset[Any], reading: torch.Tensor) -> None:
        self.dataset = dataset
        self.reading = reading

    def __getitem__(self, item: Item) -> Any:
        worker = get_worker_info()
        if worker is None:
            return self.dataset[item]
        self.reading[worker.id] = item[1]
        try:
            return self.dataset[item]
        finally:
            self.reading[worker.id] = -1


class _Carrying(Generic[T]):
    """Hands a FoveateError over as a value: PyTorch would rebuild it from one string, and lose its parts."""

    def __init__(self, collate: Callable[[list[Any]], T]) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> _Made[T] | FoveateError:
        try:
            return _Made(self.collate(samples))
        except FoveateError as error:
            return error


def _start(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the workers, without the signal handler that PyTorch sets with them.

    It raises in whatever code the parent runs when a child dies, such as a training step, where nobody can
    tell a lost file from a bug. The polling of `WatchedLoader` notices the death as well.
    """
    number = getattr(signal, "SIGCHLD", None)  # not on Windows
    before = None if number is None else signal.getsignal(number)
    batches = iter(loader)
    if number is not None and before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, before)
    return batches
