"""Frames of a source as they come, decoded by a thread of its own, the newest first in line.

A model that is slower than its source must not fall behind, so what it cannot take is dropped and counted:
the delay of a label is that of one run of the model, however long the stream lasts. A source that waits, as a
file does, loses nothing. One that breaks off is opened again, after 1, 2, 4 .. 30 seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from foveate.video.base import DEFAULT_FPS, DecodeError, Limits
from foveate.video.decoder import Decoder, RGBConverter
from foveate.video.footage import Footage
from foveate.video.pace import Pace

LONGEST_BACKOFF_S = 30.0
CATCH_UP = 1.05  # times its own speed of a source that comes in bursts, which makes up for a stall
SETBACK_S = 1.0  # of what is late by more, the time is lost
JUMP_S = 10.0  # a live clock that runs ahead of ours by more is taken to have been set
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrived:
    """A decoded frame. time_s: since the first frame of the stream.

    arrived: when it was decoded, by `time.perf_counter`. wall: the same by the clock on the wall, in seconds
    since 1970.
    """

    frame: av.VideoFrame
    time_s: float
    arrived: float
    wall: float

    def rgb(self) -> NDArray[np.uint8]:
        """Upright uint8 RGB (H, W, 3)."""
        return RGBConverter(*RGBConverter.upright(self.frame))(self.frame)


class Timeline:
    """One line of time, from 0, over the clocks of all connections.

    Within one, frames follow each other as their times say. Where these go back, or are missing, a frame
    comes one step later, and where a live one jumps as much later as it came. A new connection goes on at
    the time that has passed since the first frame.
    """

    def __init__(self, live: bool) -> None:
        self._live = live
        self._now: float | None = None
        self._arrived = 0.0
        self._clock: float | None = None

    def connect(self, fps: float | None) -> None:
        """Begin a connection. fps: the rate that it states."""
        self._step = 1 / (fps or DEFAULT_FPS)
        self._clock = None
        self._fresh = True

    def next(self, clock: float | None, arrived: float) -> float:
        """The time of the next frame. clock: its own time, if it has one. arrived: by our clock; seconds."""
        if self._now is None:
            self._now, self._begun = 0.0, arrived
        elif self._fresh:
            self._now = max(self._now + self._step, arrived - self._begun)
        else:
            self._now += self._passed(clock, arrived - self._arrived)
        self._clock, self._arrived, self._fresh = clock, arrived, False
        return self._now

    def _passed(self, clock: float | None, waited: float) -> float:
        if clock is None or self._clock is None:
            return max(waited, 1e-3) if self._live else self._step
        step = clock - self._clock
        if self._live and step > waited + JUMP_S:
            return max(waited, self._step)
        return step if step > 0 else self._step


class Feed:
    """The frames of a source; go through it once, in a `with` block.

    fps: frames a second that are wanted; others are decoded alone, and neither kept nor counted as dropped.
    backlog: frames that may wait, of which the oldest is dropped for a newer one. keep_all: let the source
    wait in place of that, as a file does anyway. realtime: give a file the speed that it was recorded at, and
    drop what is late. A live source that comes in bursts, as HLS does, gets its own speed back. reconnect:
    attempts in a row to open a source again that broke off. backoff_s: before the first of these, and twice
    as long before each further one. DecodeError where the source cannot be read, or does not come back.
    """

    frames = 0  # decoded
    dropped = 0  # of those wanted
    damaged = 0  # packets that could not be decoded
    reconnects = 0

    def __init__(
        self,
        source: Footage,
        fps: float | None = None,
        backlog: int = 1,
        keep_all: bool = False,
        realtime: bool = False,
        reconnect: int = 10,
        backoff_s: float = 1.0,
        limits: Limits | None = None,
    ) -> None:
        self._source = source
        self._pace = Pace(1 / fps) if fps else None
        self._backlog = backlog
        self._keep_all = keep_all
        self._realtime = realtime
        self._reconnect = reconnect
        self._backoff_s = backoff_s
        self._limits = limits or Limits()
        self._times = Timeline(not source.waits)
        self._waiting: deque[Arrived] = deque()
        self._change = threading.Condition()
        self._stopped = threading.Event()
        self._played: tuple[float, float] | None = None  # time of the frame before, and when it was due
        self._has_end = False
        self._done = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._source.stop()
        with self._change:
            self._change.notify_all()
        self._thread.join(1.0)
        if not self._thread.is_alive():  # one that waits for an address ends with the process
            self._source.close()

    @property
    def drops(self) -> bool:
        """Whether a frame is dropped that the reader is too slow for."""
        return not self._keep_all and (self._realtime or not self._source.waits)

    @property
    def late(self) -> bool:
        """Whether a newer frame waits that will be lost if the reader takes long over this one."""
        return self.drops and bool(self._waiting)

    def take(self, until: float | None = None) -> Arrived | None:
        """The next frame, or None at the end, or when `time.perf_counter` passes `until`."""
        with self._change:
            while not self._waiting and not self._done:
                left = None if until is None else until - time.perf_counter()
                if left is not None and left <= 0:
                    return None
                self._change.wait(left)
            if self._waiting:
                arrived = self._waiting.popleft()
                self._change.notify_all()
                return arrived
        if self._failure is not None:
            raise self._failure
        return None

    def __iter__(self) -> Iterator[Arrived]:
        while (arrived := self.take()) is not None:
            yield arrived

    def _run(self) -> None:
        try:
            self._read_all()
        except Exception as error:
            self._failure = error
        finally:
            with self._change:
                self._done = True
                self._change.notify_all()

    def _read_all(self) -> None:
        failed = 0  # attempts in a row
        while not self._stopped.is_set():
            before = self.frames
            try:
                if self._read_once():
                    return
                cause = "the stream broke off"
            except DecodeError as error:
                if not self.frames or self._has_end or not self._source.returns:
                    raise  # it never was there, or is a file on a server, which would begin at its beginning
                cause = error.cause
            failed = 1 if self.frames > before else failed + 1
            if failed > self._reconnect:
                times = "once" if self._reconnect == 1 else f"{self._reconnect} times"
                tried = f"; opened again {times}" if self._reconnect else ""
                raise DecodeError(self._source.name, f"{cause}{tried}", "is it still running?")
            pause = min(self._backoff_s * 2 ** (failed - 1), LONGEST_BACKOFF_S)
            log.warning("%s: %s; opening it again in %g s", self._source.name, cause, pause)
            self._stopped.wait(pause)

    def _read_once(self) -> bool:
        """Read one connection to its end; whether the source has ended with it."""
        before = self.frames
        with Decoder(self._source, self._limits) as decoder:
            self._has_end = decoder.has_end
            if self._has_end and before and self._source.returns:
                return True  # a broadcast that was finished meanwhile would begin at its beginning
            rate = decoder.stream.average_rate
            self._times.connect(float(rate) if rate else None)
            packets, first = 0, ""
            for packet in decoder.own_packets():
                for frame in decoder.decode(packet):
                    self.reconnects += bool(before) and self.frames == before
                    self.frames += 1
                    self._offer(frame)
                packets, first = packets + 1, first or next(iter(decoder.errors), "")
                self.damaged += len(decoder.errors)
                decoder.errors.clear()  # of which a stream may have any number
                if self._stopped.is_set():
                    return True
            if self.frames == before:
                decoder.errors += [first] if first else []
                raise decoder.no_frames_error(packets - 1)  # the last of them is empty
        return self._has_end or not self._source.returns

    def _offer(self, frame: av.VideoFrame) -> None:
        arrived = time.perf_counter()
        time_s = self._times.next(frame.time, arrived)
        if self._realtime or (self._source.bursts and self.drops):
            arrived = self._play(time_s, arrived)
        if self._pace is not None:
            if not self._pace.due(time_s):
                return
            self._pace.take(time_s)
        with self._change:
            while len(self._waiting) >= self._backlog and not self._stopped.is_set():
                if self.drops:
                    self._waiting.popleft()
                    self.dropped += 1
                else:
                    self._change.wait()
                    if self._source.waits:  # and is not late for it
                        arrived = time.perf_counter()
            self._waiting.append(Arrived(frame, time_s, arrived, time.time()))
            self._change.notify_all()

    def _play(self, time_s: float, arrived: float) -> float:
        """Wait until a frame of this time is due after the one before; returns the time by then."""
        speed = 1.0 if self._realtime else CATCH_UP
        before_s, before = self._played or (time_s, arrived)
        due = before + (time_s - before_s) / speed
        if arrived < due:
            self._stopped.wait(due - arrived)
        self._played = time_s, max(due, arrived - SETBACK_S)
        return max(due, arrived)
