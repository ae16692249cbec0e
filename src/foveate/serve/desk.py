"""Receive videos and hand them to workers: not more at a time than there are places."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from starlette.requests import Request

from foveate.errors import DataError, UsageError
from foveate.infer.output import Prediction
from foveate.serve.guard import Refusal, drop_body, receive_body
from foveate.serve.metrics import Metrics
from foveate.serve.service import Asked, Service, Stopped, Told

COPY = 1 << 20  # bytes at a time
MOST_WAIT_S = 30.0  # that a client is asked to wait before it tries again


class Desk:
    """Places for videos that are received, and for those that wait or are answered. For one event loop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = service.settings
        self.uploads = self.places = self.lives = 0
        self.draining = False
        self.metrics = Metrics(
            {
                "uploads": lambda: self.uploads,
                "places": lambda: self.places,
                "lives": lambda: self.lives,
                "draining": lambda: self.draining,
            }
        )
        self._usual_s = 1.0  # of an answer, in the mean of late
        self._threads = ThreadPoolExecutor(self.settings.workers, "answer")

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[tuple[BinaryIO, int]]:
        """The body of a request as a file without a name, which is gone with its last handle; its length.

        Refusal where there is no room: 429, 503 while the server is being stopped.
        """
        try:
            await self._room()
        except Refusal:
            await drop_body(request.receive, self.settings)
            raise
        self.uploads += 1
        started = time.monotonic()
        try:
            with tempfile.TemporaryFile() as file:
                length = await self._receive(request, file)
                self.metrics.took(upload=time.monotonic() - started)
                self.metrics.counted(received_bytes=length)
                yield file, length
        finally:
            self.uploads -= 1

    async def _receive(self, request: Request, file: BinaryIO) -> int:
        try:
            length = await receive_body(request.receive, request.headers, file, self.settings)
            file.flush()
        except OSError as error:
            raise no_disk(error) from error
        if length == 0:
            raise Refusal(
                400, "body", "is empty", "send the bytes of a video, as curl --data-binary @FILE does"
            )
        return length

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the videos that wait or are answered. Refusal as for `received`."""
        self._check_room()
        self.places += 1
        try:
            yield
        finally:
            self.places -= 1

    async def answer(self, asked: Asked, told: Told | None = None) -> tuple[Prediction, tuple[int, int]]:
        """What `Service.answer` returns, from a worker.

        Refusal 422 for a video that cannot be used, 400 for an option, 504 where it takes too long, 503 where
        the server was stopped meanwhile.
        """
        submitted, waited = time.monotonic(), 0.0

        def work() -> tuple[Prediction, tuple[int, int]]:
            nonlocal waited
            waited = time.monotonic() - submitted
            return self.service.answer(asked, told)

        try:
            prediction, shape = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except DataError as error:
            raise Refusal(422, error.subject, error.cause, error.hint) from error
        except UsageError as error:
            raise Refusal(400, error.subject, error.cause, error.hint) from error
        except Stopped as stopped:
            if stopped.reason == "late":
                cause = f"not answered within {self.settings.answer_s:g} s"
                raise Refusal(504, asked.name, cause, "ask for fewer windows, or cut it") from None
            raise self._stopping() from None
        finally:
            asked.gone.set()
        took = time.monotonic() - submitted
        self._usual_s += (took - waited - self._usual_s) / 8
        parts = {part: value / 1e3 for part, value in prediction.timing_ms.items()}
        self.metrics.took(wait=waited, answer=took, **parts)
        self.metrics.counted(gmacs=prediction.cost.gmacs)
        return prediction, shape

    def drain(self) -> None:
        """Refuse what comes from now on; return when nothing is being answered, or after `drain_s`."""
        self.draining = True
        until = time.monotonic() + self.settings.drain_s
        while (self.places or self.uploads or self.lives) and time.monotonic() < until:
            time.sleep(0.05)
        self.service.stopping.set()

    def close(self) -> None:
        self.service.stopping.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _room(self) -> None:
        """Wait a moment for room, so that who comes again at once costs little; Refusal if there is none."""
        until = time.monotonic() + self.settings.full_s
        while True:
            try:
                self._check_room()
                if self.uploads >= self.settings.uploads:
                    raise self._full("uploads are being received")
                return
            except Refusal:
                if self.draining or time.monotonic() > until:
                    raise
            await asyncio.sleep(self.settings.full_s / 5)

    def _check_room(self) -> None:
        if self.draining:
            raise self._stopping()
        if self.places >= self.settings.workers + self.settings.queue:
            raise self._full("videos are waiting")

    def _full(self, what: str) -> Refusal:
        wait_s = self._usual_s * (self.places + 1) / self.settings.workers
        retry_s = min(max(1.0, wait_s), MOST_WAIT_S)
        return Refusal(429, "server", f"is busy: {what}", "try again a little later", retry_s)

    def _stopping(self) -> Refusal:
        return Refusal(503, "server", "is being stopped", "try again a little later", 10.0)


def no_disk(error: OSError) -> Refusal:
    """A video that could not be written down, as on a full disk."""
    return Refusal(507, "disk", (error.strerror or str(error)).lower(), "tell who runs this")


def source_of(file: BinaryIO) -> Any:
    """What another process opens of a file without a name: a path to it where the system has one."""
    path = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
    return str(path) if path.exists() else file


def copy_part(archive: BinaryIO, start: int, length: int, part: BinaryIO) -> None:
    """Write a stretch of a file to another one. Blocks; for a worker thread."""
    archive.seek(start)
    while length > 0 and (chunk := archive.read(min(COPY, length))):
        part.write(chunk)
        length -= len(chunk)
    part.flush()
