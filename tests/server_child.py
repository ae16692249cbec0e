"""A server with limits of its own: `python server_child.py SETTINGS TOKEN`; its first line is the port."""

from __future__ import annotations

import json
import logging
import sys

import torch

from foveate.infer.engine import EagerEngine
from foveate.serve.api import create_app
from foveate.serve.connections import listen, run
from foveate.serve.service import Service
from foveate.serve.settings import Settings
from foveate.weights.load import load_model


def main() -> None:
    logging.basicConfig()
    torch.set_num_threads(1)
    settings = Settings(**json.loads(sys.argv[1]))
    listening = listen("127.0.0.1", 0)
    with Service(
        {"adafocus_small": EagerEngine(load_model("adafocus_small", "figures"))}, settings
    ) as service:
        app = create_app(service, "127.0.0.1", sys.argv[2])
        print(listening.getsockname()[1], flush=True)
        run(app, listening, settings, app.state.desk.drain)


if __name__ == "__main__":
    main()
