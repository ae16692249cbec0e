"""A source, a model, and labels as they come: what `foveate stream` prints, and how far it lags."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.infer.live import Live, LiveAnswer
from foveate.video.feed import Feed

SECONDS_A_BIN = 1e-4  # of delays, which are counted and not kept: memory stays the same for ever
SLOWEST_BIN = 100_000  # ten seconds


@dataclass(frozen=True)
class Label:
    """An answer and what became of the stream until then.

    latency_ms: from when the frame was decoded to when its answer was there. wall: when it was decoded, in
    seconds since 1970. picture: the frame, uint8 RGB (H, W, 3).
    """

    answer: LiveAnswer
    latency_ms: float
    wall: float
    dropped: int
    reconnects: int
    picture: NDArray[np.uint8]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        wall = datetime.fromtimestamp(self.wall, UTC).isoformat(timespec="milliseconds")
        return {
            **self.answer.to_dict(),
            "wall": wall,
            "latency_ms": self.latency_ms,
            "dropped": self.dropped,
            "reconnects": self.reconnects,
        }


class Tally:
    """What a stream was like: counts, and delays by percentile, in constant memory."""

    labels = 0

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._delays: Counter[int] = Counter()

    def add(self, latency_ms: float) -> None:
        """Count a label."""
        self.labels += 1
        self._delays[min(int(latency_ms / 1000 / SECONDS_A_BIN), SLOWEST_BIN)] += 1

    def percentile(self, percent: float) -> float | None:
        """Milliseconds within which that share of the labels came, to a tenth; None without labels."""
        left = self.labels * percent / 100
        for place in sorted(self._delays):
            left -= self._delays[place]
            if left <= 0:
                return round(1000 * SECONDS_A_BIN * (place + 1), 1)
        return None

    def summary(self, feed: Feed) -> dict[str, Any]:
        """Everything that was counted. fps: frames decoded a second of running."""
        took = time.perf_counter() - self._begun
        return {
            "labels": self.labels,
            "frames": feed.frames,
            "dropped": feed.dropped,
            "damaged": feed.damaged,
            "reconnects": feed.reconnects,
            "seconds": took,
            "fps": feed.frames / took,
            "latency_ms": {f"p{percent}": self.percentile(percent) for percent in (50, 90, 99)},
        }


def labelled(feed: Feed, live: Live, tally: Tally, seconds: float | None = None) -> Iterator[Label]:
    """A label whenever one is due, counted in `tally`, until the feed ends.

    seconds: end after so many of the stream, or of waiting for it. Errors of the feed and of the model.
    """
    until = None if seconds is None else time.perf_counter() + seconds
    while (arrived := feed.take(until if feed.drops else None)) is not None:
        if seconds is not None and arrived.time_s >= seconds:
            return
        if not live.wants(arrived.time_s):
            continue
        picture = arrived.rgb()
        answer = live.push(picture, arrived.time_s, hurry=feed.late)
        if answer is None:
            continue
        latency_ms = 1000 * (time.perf_counter() - arrived.arrived)
        tally.add(latency_ms)
        yield Label(answer, latency_ms, arrived.wall, feed.dropped, feed.reconnects, picture)
