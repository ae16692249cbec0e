"""Measure how much time is spent in named parts of a piece of work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Milliseconds spent in named parts, in `milliseconds`; time in nested parts counts for the inner one."""

    def __init__(self, *parts: str) -> None:
        self.milliseconds = dict.fromkeys(parts, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time spent in the context for `part`."""
        self._charge()
        self._open.append(part)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._open:
            part = self._open[-1]
            self.milliseconds[part] = self.milliseconds.get(part, 0.0) + 1000 * (now - self._since)
        self._since = now
