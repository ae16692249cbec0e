"""An even pace: which of the frames of a stream to take for so many a second."""

from __future__ import annotations

import math

EARLY = 1 / 8  # of a step: one that comes so much too early is taken, as clocks jitter


class Pace:
    """Picks times at least a step apart, on an even grid as long as nothing is late by a step."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._next_s = -math.inf

    def due(self, time_s: float) -> bool:
        """Whether it is time; a little early counts."""
        return time_s >= self._next_s - EARLY * self._step_s

    def take(self, time_s: float) -> None:
        """Count a time that was due."""
        on_grid = self._next_s + self._step_s
        self._next_s = on_grid if on_grid > time_s + EARLY * self._step_s else time_s + self._step_s
