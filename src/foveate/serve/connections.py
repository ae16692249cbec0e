"""Run the server: connections that send nothing are closed, and a signal lets answers end."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from foveate.errors import OutputError
from foveate.serve.settings import Settings

MOST_HEAD = 16 << 10  # bytes of the head of a request
MOST_FRAME = 4 << 20  # bytes of a message of a camera
CLOSE_S = 1  # for connections to close once their answers are sent


def connection_type(settings: Settings) -> type[H11Protocol]:
    """uvicorn's connection, closed where the head of a request does not come, or too many are open."""

    class Connection(H11Protocol):
        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > settings.connections:
                self._end(b"429 Too Many Requests\r\nRetry-After: 5")
            else:
                self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._wait_no_more()
            elif self.waiting is None:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_no_more()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self.waiting = self.loop.call_later(settings.head_s, self._end, b"408 Request Timeout")

        def _wait_no_more(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

        def _end(self, status: bytes) -> None:
            if not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                self.transport.close()

    return Connection


class Server(uvicorn.Server):
    """A server that refuses new videos at the first signal and ends when those that it has are answered.

    drain: is called then, and returns when nothing is being answered, or it has taken long enough.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Any]) -> None:
        super().__init__(config)
        self.drain = drain
        self.draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.draining:
            super().handle_exit(sig, frame)
            return
        self.draining = True

        def drain() -> None:
            self.drain()
            self.should_exit = True

        threading.Thread(target=drain, daemon=True).start()


def listen(host: str, port: int) -> socket.socket:
    """A socket for a server; port 0 takes a free one. OutputError where the port cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        cause = f"cannot be listened on: {(error.strerror or str(error)).lower()}"
        raise OutputError(f"{host}:{port}", cause, "choose another --port or --host") from error


def config_of(app: Any, settings: Settings) -> uvicorn.Config:
    """uvicorn's settings for an application."""
    return uvicorn.Config(
        app,
        http=connection_type(settings),
        ws="websockets-sansio",
        ws_max_size=MOST_FRAME,
        h11_max_incomplete_event_size=MOST_HEAD,
        timeout_graceful_shutdown=CLOSE_S,
        server_header=False,
        log_config=None,
        access_log=False,
    )


def run(app: Any, listening: socket.socket, settings: Settings, drain: Callable[[], Any]) -> None:
    """Serve until a signal; returns when the answers that have begun are sent."""
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    Server(config_of(app, settings), drain).run([listening])
