"""Stopping on a signal without losing work: the step is finished and saved first."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from foveate.errors import FoveateError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
TOLD_S = 2.0  # after which every process has been sent the signal that one was stopped by


class Stopped(FoveateError):
    """The training was told to stop, and did; exit code 143 after SIGTERM, 130 after SIGINT."""

    def __init__(self, signum: int, subject: object = "training", cause: str = "", hint: str = "") -> None:
        super().__init__(subject, cause or f"stopped by {signal.Signals(signum).name}", hint)
        self.signum = signum
        self.exit_code = 128 + signum


class LostProcess(FoveateError):
    """Another process of the training has ended, or does not answer."""


class StopSignals:
    """Inside this context SIGTERM and SIGINT only leave a note; a second one ends the process at once.

    A signal that came too late to be acted on, or that nothing is left to act on because another process was
    lost, is raised again at the end. Signals reach the main thread only, so in another thread the context
    does nothing.
    """

    def __init__(self) -> None:
        self.received = 0  # number of the signal, 0 while there is none
        self._impatient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        if self.received and (kind is None or issubclass(kind, LostProcess)):
            signal.raise_signal(self.received)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Where nothing needs finishing, such as an evaluation, the first signal raises Stopped.

        So does a lost process, if a signal comes: that one was told a moment earlier.
        """
        self._impatient = True
        try:
            if self.received:
                raise Stopped(self.received)
            yield
        except LostProcess:
            self.told()  # raises Stopped
            raise
        finally:
            self._impatient = False

    def told(self) -> bool:
        """Whether there is a signal, or one comes within `TOLD_S` seconds."""
        end = time.monotonic() + TOLD_S
        while not self.received and time.monotonic() < end:
            time.sleep(0.01)
        return bool(self.received)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + signum)
        self.received = signum
        if self._impatient:
            raise Stopped(signum)
