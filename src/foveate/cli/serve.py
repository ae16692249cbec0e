"""`foveate serve`: the web page and the HTTP API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from foveate.cli.inputs import demand
from foveate.cli.options import AUTO, MEASURE_FROM, EngineOptions
from foveate.cli.show import say
from foveate.errors import UsageError

if TYPE_CHECKING:
    from foveate.infer.engine import Engine

TOKEN = "FOVEATE_TOKEN"
EXTRA = "pip install 'foveate[serve]'"


def serve(
    models: tyro.conf.Positional[list[str]],
    weights: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Path | None = None,
    workers: int = 2,
    queue: int = 8,
    max_mb: int = 100,
    timeout: float = 60.0,
    examples: bool = True,
    engine: EngineOptions = AUTO,
) -> int:
    """Serve a page that shows what happens in a video, and an HTTP API that says it.

    Videos are read in processes of their own, with limits on time and memory, and are not kept. Ctrl-C or
    SIGTERM ends it when the answers that have begun are sent.

    Args:
        models: Model files, or names with published weights; the first is the default. Without any, as
            `foveate predict` chooses.
        weights: Of the names: what they were trained on, such as kinetics400; downloaded once.
        host: Address to listen on; 0.0.0.0 for all of this machine's, which wants a token.
        port: Port to listen on; 0 takes a free one.
        token: A file with a token that requests must bear; or set the environment variable FOVEATE_TOKEN.
        workers: Videos that are read at a time; the model runs on one of them.
        queue: Videos that may wait; more are told to come back later (429).
        max_mb: Megabytes that a video may have.
        timeout: Seconds that an answer may take.
        examples: Also load the small model of the examples that come with the package.
    """
    try:
        from foveate.serve.api import create_app
        from foveate.serve.connections import listen, run
    except ImportError as error:
        raise UsageError("serve", f"{error.name} is not installed", EXTRA) from error
    from foveate.serve.service import Service
    from foveate.serve.settings import LOOPBACK, MB, Settings

    demand(1, workers=workers, max_mb=max_mb)
    demand(0, queue=queue, port=port)
    if not 0 < timeout < float("inf"):
        raise UsageError("--timeout", f"is {timeout:g}", "give seconds")
    secret = _token(token)
    listening = listen(host, port)
    engines = _engines(models, weights, examples, engine)
    settings = Settings(most_bytes=max_mb * MB, answer_s=timeout, workers=workers, queue=queue)
    with Service(engines, settings) as service:
        app = create_app(service, host, secret)
        shown = f"[{host}]" if ":" in host else host
        say(f"models: {', '.join(service.models)}")
        if host not in LOOPBACK and not secret:
            say(
                f"warning: {host}: whoever reaches this machine can use it (set {TOKEN} or give --token FILE)"
            )
        say(f"open http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
        run(app, listening, settings, app.state.desk.drain)
    return 0


def _token(file: Path | None) -> str:
    """The token; empty for none. UsageError for a file that has none."""
    if file is None:
        return os.environ.get(TOKEN, "").strip()
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(file, f"cannot be read: {error}", "write the token into it") from error
    if not text or not text.isprintable() or any(sign in text for sign in ' ,"'):
        raise UsageError(file, "has no token", "write one word of letters and digits into it")
    return text


def _engines(
    models: list[str], weights: str | None, examples: bool, chosen: EngineOptions
) -> dict[str, Engine]:
    """An engine for each model, by its name; of the default one without any."""
    from foveate.models.zoo import MODELS
    from foveate.weights.load import SHIPPED, default_model, load_model, trained_model

    nets = [trained_model(name, weights if name in MODELS else None) for name in models] or [default_model()]
    if examples:
        given = {(net.name, net.trained_on) for net in nets}
        shipped = [load_model(name, data) for name, data in SHIPPED]
        nets += [net for net in shipped if (net.name, net.trained_on) not in given]
    engines: dict[str, Engine] = {}
    for net in nets:
        name, number = net.name, 2
        while name in engines:
            name, number = f"{net.name}-{number}", number + 1
        engines[name] = chosen.open(net, MEASURE_FROM)
    return engines
