"""One line of time from a clock that starts again, as in transport streams that were joined.

Each of the joined files brings the clock of its own, which says how its frames follow one another and nothing
about the other files. So a stretch begins where the clock goes back, and is put behind the one before it.
MPEG's clock also wraps after 2^33 ticks, 26.5 hours; of two readings the nearer one is taken, as FFmpeg's own
correction of a wrap puts 26.5 hours between two joined files. A clock that goes forward is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_TIME = np.iinfo(np.int64).min
WRAPS = {"mpegts", "mpeg"}  # containers with a clock of 33 bits
TICKS = 1 << 33
LONGEST = 8  # mean steps: a last frame that claims to last longer is not believed

Times = NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """times: of each packet or frame, in ticks, of which no stretch overlaps another."""

    times: Times
    restarts: int  # of the clock


def line_of_packets(pts: Times, dts: Times, durations: Times, keys: NDArray[np.bool_], wraps: bool) -> Line:
    """Presentation times of packets in file order. Shapes (packets,); times in ticks, NO_TIME for none.

    In MPEG's own containers the clock is that of decoding, which goes forward with every packet of one file.
    Others may not have it; there a key frame that is shown before an earlier packet begins a stretch. Without
    all times nothing is changed.
    """
    if len(pts) < 2 or (pts == NO_TIME).any() or (wraps and (dts == NO_TIME).any()):
        return Line(pts, 0)
    if not wraps:
        back = pts[1:] < np.maximum.accumulate(pts)[:-1]
        return _joined(pts, np.flatnonzero(back & keys[1:]) + 1, durations)
    steps = _nearest(np.diff(dts))
    clock = dts[0] + np.concatenate([[0], np.cumsum(steps)])
    cuts = np.flatnonzero((steps < 0) | ((steps == 0) & keys[1:])) + 1
    return _joined(clock + _nearest(pts - dts), cuts, durations)


def line_of_frames(times: Times, wraps: bool) -> Line:
    """Presentation times of decoded frames in the order in which they came, shape (frames,), in ticks."""
    if len(times) < 2 or (times == NO_TIME).any():
        return Line(times, 0)
    steps = _nearest(np.diff(times)) if wraps else np.diff(times)
    clock = times[0] + np.concatenate([[0], np.cumsum(steps)])
    return _joined(clock, np.flatnonzero(steps < 0) + 1, np.zeros_like(times))


def last_step(mean: float, stated: float) -> float:
    """How long the last frame is shown: as stated if that is believable, else the mean step of the others."""
    return stated if 0 < stated < LONGEST * mean else mean


def _nearest(steps: Times) -> Times:
    """Differences of readings of a clock that wraps, the shorter way round."""
    return (steps + TICKS // 2) % TICKS - TICKS // 2


def _joined(times: Times, cuts: NDArray[np.int64], durations: Times) -> Line:
    """The stretches that begin at `cuts`, each moved to where the one before ends."""
    if not len(cuts):
        return Line(times, 0)
    stretches, lengths = np.split(times, cuts), np.split(durations, cuts)
    placed = [stretches[0]]
    usual = float(np.median(np.abs(np.diff(times))))  # of a stretch of one frame
    for before, length, stretch in zip(stretches, lengths, stretches[1:], strict=False):
        last = int(before.argmax())
        stated = int(length[last])
        mean = float(np.ptp(before)) / (len(before) - 1) if len(before) > 1 else stated or usual
        end = int(placed[-1][last]) + round(last_step(mean, stated))
        placed.append(stretch - stretch.min() + end)
    return Line(np.concatenate(placed), len(cuts))
