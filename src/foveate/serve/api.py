"""The routes of the page and of the API."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from foveate import __version__
from foveate.errors import FoveateError
from foveate.serve.answers import add_answers
from foveate.serve.desk import Desk
from foveate.serve.guard import Gone, Guard, Refusal, unexpected
from foveate.serve.live import add_live
from foveate.serve.service import Service

HERE = Path(__file__).parent
ABOUT = "Names what videos show. Bodies are the bytes of a video, as they are; no form is needed."


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
    add_answers(app, desk)
    add_live(app, desk)
    app.mount("/examples", StaticFiles(directory=HERE / "examples"))
    _page(app)
    return app


def _page(app: FastAPI) -> None:
    """A route for each file of the page, and no other."""
    for file in sorted((HERE / "page").iterdir()):
        names = ("/", "/index.html") if file.name == "index.html" else (f"/{file.name}",)
        for name in names:
            app.add_route(name, _sender(file), methods=["GET"], include_in_schema=False)


def _sender(file: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(_: Request) -> Response:
        return FileResponse(file)

    return send


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
        return answered(request, unexpected(request.url.path, error))


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
    budget = served.dial and {"least": served.dial.curve.points[0].share, "most": 1.0}
    described = {"name": name, "title": title, "trained_on": model.trained_on, **shape}
    return {**described, "gmacs": gmacs, "budget": budget}


def _route(request: Request) -> str:
    """The path of the route that a request has met, which strangers cannot make many of."""
    return getattr(request.scope.get("route"), "path", "other") or "other"
