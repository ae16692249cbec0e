"""What every request passes before it is answered, and how its body is received."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from foveate.serve.settings import LOOPBACK, MB, Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
log = logging.getLogger(__name__)
TOKEN = "token."  # in front of the token among the subprotocols of a WebSocket, which has no other header
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=()",
    "Cache-Control": "no-store",
}


class Refusal(Exception):
    """A request that is refused: the status, and what is wrong in the words of an error."""

    def __init__(self, status: int, subject: str, cause: str, hint: str = "", retry_s: float = 0.0) -> None:
        super().__init__(f"{subject}: {cause}")
        self.status = status
        self.error = {"subject": subject, "cause": cause, "hint": hint}
        self.headers = {"Retry-After": str(math.ceil(retry_s))} if retry_s else {}

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": self.error}, self.status, {**self.headers, **(headers or {})})


def unexpected(subject: str, error: Exception) -> Refusal:
    """What nobody foresaw is told in the log alone."""
    log.error("%s: %s: %s", subject, type(error).__name__, error, exc_info=error)
    return Refusal(500, "bug", type(error).__name__, "a bug of Foveate; its log has more")


@dataclass
class Guard:
    """ASGI middleware: refuses requests of other sites and without the token, and sets headers for browsers.

    host: where the server listens. On the loopback address a request must name that host, as another site
    could otherwise have its own name lead here. token: empty for none.
    """

    app: App
    host: str
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self.app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)})
        else:
            await refusal.response({"Connection": "close"})(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        asked = headers.get("host", "")
        name = urlsplit(f"//{asked}").hostname if asked.isprintable() and "/" not in asked else None
        if self.host in LOOPBACK and name not in LOOPBACK:
            return Refusal(400, "Host", "is not this server", "ask 127.0.0.1 or localhost")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != asked:
            return Refusal(
                403, "Origin", "requests of other sites are refused", "open the page of this server"
            )
        guarded = scope["path"].startswith("/v1/") or scope["path"] == "/metrics"
        if self.token and guarded and not self._knows_token(scope, headers):
            return Refusal(
                401, "Authorization", "the token is missing or wrong", "Authorization: Bearer TOKEN"
            )
        return None

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        given = headers.get("authorization", "").removeprefix("Bearer ")
        for protocol in scope.get("subprotocols", []):
            given = protocol.removeprefix(TOKEN) if protocol.startswith(TOKEN) else given
        return hmac.compare_digest(given.encode(), self.token.encode())


async def receive_body(receive: Receive, headers: Headers, file: BinaryIO, settings: Settings) -> int:
    """Write the body of a request to a file; its length in bytes.

    Refusal for one that is too long, or comes too slowly: 413, 408. Of a body that is too long, as many bytes
    more are received and dropped, because a client that is still sending would not see the answer.
    """
    most, length, started = settings.most_bytes, 0, time.monotonic()
    promised = headers.get("content-length", "")
    if promised.isdigit() and int(promised) > 2 * most:
        raise _too_long(most)
    async for chunk in _chunks(receive, settings, started):
        length += len(chunk)
        if length > 2 * most:
            break
        if length <= most:
            file.write(chunk)
    if length > most:
        raise _too_long(most)
    return length


async def drop_body(receive: Receive, settings: Settings) -> None:
    """Receive the body of a request that is refused, so that the client comes to see why."""
    length = 0
    async for chunk in _chunks(receive, settings, time.monotonic()):
        length += len(chunk)
        if length > settings.most_bytes:
            return


class Gone(Exception):
    """The client has closed the connection."""


async def _chunks(receive: Receive, settings: Settings, started: float) -> Any:
    """Yield the parts of a body; Refusal 408 if they come too slowly, Gone if no more will come."""
    length = 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), settings.stall_s)
        except TimeoutError:
            raise Refusal(408, "body", f"nothing came for {settings.stall_s:g} s", "send it again") from None
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        length += len(chunk)
        yield chunk
        if not message.get("more_body"):
            return
        if length < (time.monotonic() - started - settings.stall_s) * settings.least_rate:
            raise Refusal(408, "body", f"comes at less than {settings.least_rate >> 10} KB a second", "")


def _too_long(most: int) -> Refusal:
    return Refusal(413, "body", f"is longer than {most // MB} MB", "cut the video, or make it smaller")
