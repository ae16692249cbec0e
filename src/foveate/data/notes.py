"""Notes of what each worker process is doing, in memory that the workers share with their parent."""

from __future__ import annotations

import os
import time
from collections.abc import Collection

import torch

STARTING, IDLE = -2, -1  # in place of an index, of a worker that reads nothing


class Notes:
    """Written by the workers, read by the parent: a row of process, index and number of the note for each."""

    def __init__(self, workers: int) -> None:
        self.rows = torch.zeros(workers, 3, dtype=torch.int64).share_memory_()

    def clear(self) -> None:
        self.rows.copy_(torch.tensor([0, STARTING, 0]))

    @property
    def indices(self) -> list[int]:
        """What each worker is reading, or STARTING or IDLE."""
        found: list[int] = self.rows[:, 1].tolist()
        return found

    def write(self, worker: int, index: int) -> None:
        """Of this process: `index` of the entry that it begins to read, or IDLE."""
        row = self.rows[worker]
        row[2] += 1
        row[0] = os.getpid()
        row[1] = index

    def indices_of(self, processes: Collection[int | None]) -> list[int]:
        """The entries that these processes are reading."""
        return [index for process, index, _ in self.rows.tolist() if process in processes and index >= 0]


class Watch:
    """How long workers have been at the same thing while the parent waited for them.

    poll_s: seconds between two looks, of which no more are counted: the clock goes on while all processes
    are suspended.
    """

    def __init__(self, notes: Notes, poll_s: float) -> None:
        self.notes = notes
        self.poll_s = poll_s
        self._before, self._looked = notes.rows.clone(), time.monotonic()
        self._seconds = torch.zeros(len(self._before))

    def late(self, timeout_s: float) -> list[int]:
        """What the workers are at that noted nothing new for so many seconds; asked after each poll."""
        now, clock = self.notes.rows.clone(), time.monotonic()
        longer = self._seconds + min(self.poll_s, clock - self._looked)
        self._seconds = torch.where((now == self._before).all(1), longer, 0.0)
        self._before, self._looked = now, clock
        found: list[int] = now[self._seconds >= timeout_s, 1].tolist()
        return found
