"""The routes of the page and of the API."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from foveate import __version__
from foveate.errors import FoveateError
from foveate.infer.output import Prediction
from foveate.serve.desk import Desk, part_of, source_of
from foveate.serve.guard import Gone, Refusal
from foveate.serve.service import Asked, Service
from foveate.serve.tar import members

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
LINES = "application/x-ndjson"
MOST_NAME = 200  # characters of the name of a file
ABOUT = "Names what videos show. Bodies are the bytes of a video, as they are; no form is needed."
Top = Annotated[int, Query(ge=1, le=1000, description="How many classes to name.")]
Model = Annotated[str | None, Query(description="Of `/v1/models`; the first if not given.")]
Seconds = Annotated[
    float | None,
    Query(description="Seconds for one label over time; 0 takes the video as one. If not given, videos over "
          "20 s get windows of 5 s."),
]
Budget = Annotated[
    str | None,
    Query(description="Of a model that has one: 0.3 of its full cost, 9G multiply-adds, or 40ms."),
]


def document(kind: str, about: str) -> dict[str, Any]:
    """What the OpenAPI document says of a body that is not JSON."""
    schema = {"schema": {"type": "string", "format": "binary", "description": about}}
    return {"requestBody": {"required": True, "content": {kind: schema}}}


def create_app(service: Service, host: str = "127.0.0.1", token: str = "") -> FastAPI:
    """The application; its `state.desk` counts what is going on.

    host: where it will listen. token: that requests must bear; empty for none.
    """
    desk = Desk(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="Foveate",
        version=__version__,
        description=ABOUT,
        docs_url=None,  # these pages load scripts of other hosts
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.desk = desk
    app.add_middleware(Guard, host=host, token=token)
    _errors(app)
    _about(app, desk)
    _answers(app, desk)
    app.mount("/examples", StaticFiles(directory=HERE / "examples"))
    app.mount("/", StaticFiles(directory=HERE / "page", html=True))
    return app


def _errors(app: FastAPI) -> None:
    """Every error as {"error": {"subject", "cause", "hint"}}."""

    def answered(request: Request, refusal: Refusal) -> Response:
        app.state.desk.metrics.answered(_route(request), refusal.status)
        return refusal.response()

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        return answered(request, refusal)

    @app.exception_handler(Gone)
    async def gone(request: Request, _: Gone) -> Response:
        return answered(request, Refusal(499, "connection", "closed by the client"))

    @app.exception_handler(FoveateError)
    async def wrong(request: Request, error: FoveateError) -> Response:
        return answered(request, Refusal(400, error.subject, error.cause, error.hint))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        hint = "/openapi.json describes the requests"
        return answered(request, Refusal(400, str(first["loc"][-1]), first["msg"].lower(), hint))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        refusal = Refusal(error.status_code, request.url.path, str(error.detail).lower(), "see /openapi.json")
        return answered(request, refusal)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        log.error("%s: %s: %s", request.url.path, type(error).__name__, error, exc_info=error)
        return answered(request, Refusal(500, "bug", type(error).__name__, "a bug of Foveate"))


def _about(app: FastAPI, desk: Desk) -> None:
    """What the server has, and how it is."""

    @app.get("/health/live", summary="Whether the server runs.")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/ready", summary="Whether it takes videos: 503 while it is being stopped.")
    async def ready() -> Response:
        status = "stopping" if desk.draining else "ok"
        return JSONResponse({"status": status}, 503 if desk.draining else 200)

    @app.get("/metrics", summary="Counters and times, in the text format of Prometheus.")
    async def metrics() -> Response:
        return Response(desk.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", summary="The models, and what the server allows.")
    async def models() -> dict[str, Any]:
        settings = desk.settings
        limits = {"bytes": settings.most_bytes, "seconds": settings.answer_s, "frames": settings.most_frames}
        served = [describe_model(desk.service, name) for name in desk.service.models]
        return {"models": served, "limits": limits}

    @app.get("/v1/examples", summary="Videos to try.")
    async def examples() -> dict[str, Any]:
        listed = json.loads((HERE / "examples" / "examples.json").read_text())
        known = [each for each in listed if each["model"] in desk.service.models]
        return {"examples": [each | {"url": f"/examples/{each['name']}.mp4"} for each in known]}


def describe_model(service: Service, name: str) -> dict[str, Any]:
    """What the page needs to know of a model."""
    served = service.served(name)
    model = served.engine.model
    title = f"{model.name}, trained on {model.trained_on}" if model.trained_on else model.name
    shape = {"classes": model.num_classes, "frames": model.spec.frames, "size": model.spec.size}
    gmacs = None if math.isnan(served.gmacs) else served.gmacs
    return {"name": name, "title": title, "trained_on": model.trained_on, **shape, "gmacs": gmacs}


def _answers(app: FastAPI, desk: Desk) -> None:
    """Videos in, labels out."""

    @app.post(
        "/v1/predict",
        summary="Name what a video shows.",
        description=f"With `Accept: {LINES}`, a line of JSON for each window as soon as it is answered "
        "(`event` is `window`; `again` where they begin anew), then one whose `event` is `result` or `error`. "
        "The header `X-Filename` gives the video a name in messages, percent-encoded.",
        responses={200: {"model": Prediction}},
        openapi_extra=document("application/octet-stream", "The bytes of a video."),
    )
    async def predict(
        request: Request,
        model: Model = None,
        top: Top = 5,
        window: Seconds = None,
        budget: Budget = None,
    ) -> Response:
        asked = Asked(None, _name(request), model or desk.service.default, top, window, budget)
        desk.service.check(asked)
        ...

    @app.post(
        "/v1/batch",
        summary="Name what several videos show: a tar archive in, a line of JSON for each file out.",
        openapi_extra=document("application/x-tar", "A tar archive of videos, as `tar --format=ustar` makes it."),
    )
    async def batch(
        request: Request, model: Model = None, top: Top = 5, window: Seconds = None, budget: Budget = None
    ) -> Response: ...
