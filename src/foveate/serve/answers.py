"""Videos in, labels out: the routes `/v1/predict` and `/v1/batch`."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, BinaryIO
from urllib.parse import unquote

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from foveate.errors import DataError
from foveate.infer.output import Prediction
from foveate.serve.desk import Desk, copy_part, no_disk, source_of
from foveate.serve.guard import Refusal, unexpected
from foveate.serve.service import Asked, Told
from foveate.serve.tar import members

LINES = "application/x-ndjson"
MOST_NAME = 200  # characters of the name of a file
Top = Annotated[int, Query(ge=1, le=1000, description="How many classes to name.")]
Model = Annotated[str | None, Query(description="Of `/v1/models`; the first if not given.")]
Seconds = Annotated[
    float | None,
    Query(
        description="Seconds for one label over time; 0 takes the video as one. If not given, videos over "
        "20 s get windows of 5 s."
    ),
]
Budget = Annotated[
    str | None,
    Query(description="Of a model that has one: 0.3 of its full cost, 9G multiply-adds, or 40ms."),
]


def document(kind: str, about: str) -> dict[str, Any]:
    """What the OpenAPI document says of a body that is not JSON."""
    schema = {"schema": {"type": "string", "format": "binary", "description": about}}
    return {"requestBody": {"required": True, "content": {kind: schema}}}


def add_answers(app: FastAPI, desk: Desk) -> None:
    """Videos in, labels out."""

    @app.post(
        "/v1/predict",
        summary="Name what a video shows.",
        description=f"With `Accept: {LINES}`, a line of JSON for each window as soon as it is answered "
        "(`event` is `window`; `again` where they begin anew), then `result` or `error`. "
        "The header `X-Filename` gives the video a name in messages, percent-encoded.",
        responses={200: {"model": Prediction}},
        openapi_extra=document("application/octet-stream", "The bytes of a video."),
    )
    async def predict(
        request: Request, model: Model = None, top: Top = 5, window: Seconds = None, budget: Budget = None
    ) -> Response:
        asked = _asked(desk, request, model, top, window, budget)
        lines = LINES in request.headers.get("accept", "")
        async with AsyncExitStack() as held:
            file, length = await held.enter_async_context(desk.received(request))
            held.enter_context(desk.place())
            asked = replace(asked, source=source_of(file))
            if lines:  # what is held is let go when the last line is sent
                return Lines(_events(desk, asked, length, held.pop_all()))
            async with watched(request, asked.gone):
                result = await answered(desk, asked, length)
        desk.metrics.answered("/v1/predict", 200)
        return JSONResponse(result)

    @app.post(
        "/v1/batch",
        summary="Name what several videos show: a tar archive in, a line of JSON for each file out.",
        openapi_extra=document("application/x-tar", "As `tar --format=ustar -c *.mp4` makes it."),
    )
    async def batch(
        request: Request, model: Model = None, top: Top = 5, window: Seconds = None, budget: Budget = None
    ) -> Response:
        asked = _asked(desk, request, model, top, window, budget)
        async with AsyncExitStack() as held:
            file, _ = await held.enter_async_context(desk.received(request))
            held.enter_context(desk.place())
            try:
                files = [*members(file, desk.settings.batch)]
            except DataError as error:
                raise Refusal(422, error.subject, error.cause, error.hint) from error
            kept = held.pop_all()
        return Lines(_rows(desk, asked, file, files, kept))


class Lines(StreamingResponse):
    """JSON lines as they come. `lines` is closed in any case, also where the client has gone."""

    def __init__(self, lines: AsyncGenerator[dict[str, Any]]) -> None:
        self.lines = lines
        super().__init__((json.dumps(line) + "\n" async for line in lines), media_type=LINES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with aclosing(self.lines):
            await super().__call__(scope, receive, send)


async def _events(
    desk: Desk, asked: Asked, length: int, held: AsyncExitStack
) -> AsyncGenerator[dict[str, Any]]:
    """What is known of a video as soon as it is, then its result or error."""
    async with held:
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(event: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(told.put_nowait, event)

        async def answer() -> None:
            try:
                last = {"event": "result", **await answered(desk, asked, length, tell)}
            except Refusal as refusal:
                last = {"event": "error", "status": refusal.status, "error": refusal.error}
            except Exception as error:  # the lines must end
                bug = unexpected(asked.name, error)
                last = {"event": "error", "status": bug.status, "error": bug.error}
            desk.metrics.answered("/v1/predict", last["status"] if last["event"] == "error" else 200)
            told.put_nowait(last)

        task = asyncio.create_task(answer())
        try:
            while True:
                event = await told.get()
                yield event
                if event["event"] in ("result", "error"):
                    break
        finally:
            asked.gone.set()
            await asyncio.gather(task, return_exceptions=True)


async def _rows(
    desk: Desk, asked: Asked, archive: BinaryIO, files: Sequence[tuple[str, int, int]], held: AsyncExitStack
) -> AsyncGenerator[dict[str, Any]]:
    """The answer to each file of an archive, in order; `status` is refused for one that cannot be used."""
    async with held:
        for name, start, length in files:
            each = replace(asked, name=name[:MOST_NAME], gone=threading.Event())
            try:
                with tempfile.TemporaryFile() as part:
                    await asyncio.to_thread(copy_part, archive, start, length, part)
                    row = await answered(desk, replace(each, source=source_of(part)), length)
            except Refusal as refusal:
                row = _refused(each.name, refusal)
            except OSError as error:
                row = _refused(each.name, no_disk(error))
            except Exception as error:  # the others have lines all the same
                row = _refused(each.name, unexpected(each.name, error))
            yield row
            if desk.draining:
                return
        desk.metrics.answered("/v1/batch", 200)


def _refused(name: str, refusal: Refusal) -> dict[str, Any]:
    """The line of a file that has no answer."""
    said = {key: refusal.error[key] for key in ("cause", "hint")}
    return {"video": name, "status": "refused", **said, "code": refusal.status}


async def answered(desk: Desk, asked: Asked, length: int, told: Told | None = None) -> dict[str, Any]:
    """A prediction as the API gives it. length: of the file, in bytes."""
    prediction, (width, height) = await desk.answer(asked, told)
    shape = {"width": width, "height": height, "received_bytes": length}
    return prediction.to_dict(choices=True) | shape


@asynccontextmanager
async def watched(request: Request, gone: threading.Event) -> AsyncIterator[None]:
    """Let `gone` say that the client has closed the connection."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


def _asked(
    desk: Desk, request: Request, model: str | None, top: int, window: float | None, budget: str | None
) -> Asked:
    """What a request asks for; UsageError for what no video could be answered with."""
    name = unquote(request.headers.get("x-filename", ""), errors="replace")[:MOST_NAME] or "video"
    asked = Asked(None, name, model or desk.service.default, top, window, budget)
    desk.service.check(asked)
    return asked
