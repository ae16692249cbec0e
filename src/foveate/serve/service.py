"""Answer videos with the models of a server: each read by a child process, one at a time run by a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from foveate.errors import DataError, FoveateError, UsageError
from foveate.infer.budget import BudgetDial, check_budget, curve_of
from foveate.infer.engine import Engine, clip_shape, finite
from foveate.infer.isolated import IsolatedReader
from foveate.infer.output import Prediction
from foveate.infer.predict import describe, labels_of, ranked
from foveate.infer.read import ClipReader, Window
from foveate.measure.stopwatch import Stopwatch
from foveate.models.base import ModelOutput
from foveate.serve.settings import Settings

Told = Callable[[dict[str, Any]], None]
Reason = Literal["late", "gone", "stopping"]


class Stopped(Exception):
    """An answer that nobody waits for any more. reason: why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Served:
    """A model that is served. gmacs: of a black clip, multiply-adds / 1e9. dial: of one that has a budget."""

    engine: Engine
    reader: ClipReader
    gmacs: float
    dial: BudgetDial | None = None


@dataclass(frozen=True)
class Asked:
    """A video that is to be answered. name: in messages. window, budget: None for the usual."""

    source: Any
    name: str
    model: str
    top: int = 5
    window: float | None = None
    budget: str | None = None
    gone: threading.Event = field(default_factory=threading.Event)  # nobody waits for the answer any more


class Service:
    """Models that answer videos, from any thread. Close it, or use it in a `with` block.

    engines: by the names under which their models are asked for; the first is the default. UsageError where
    no child process can start.
    """

    def __init__(self, engines: Mapping[str, Engine], settings: Settings) -> None:
        self.settings = settings
        self.models = {name: _served(engine, settings) for name, engine in engines.items()}
        self.default = next(iter(self.models))
        self.stopping = threading.Event()
        self._model_runs = threading.Lock()
        first = self.models[self.default].reader
        self._children = IsolatedReader(first, settings.workers, settings.read_s, settings.read_bytes)

    def served(self, name: str) -> Served:
        """The model of this name; UsageError if there is none."""
        if name not in self.models:
            raise UsageError("model", "no model of this name is served", f"one of {', '.join(self.models)}")
        return self.models[name]

    def check(self, asked: Asked) -> None:
        """Refuse what no video could be answered with: UsageError. Does not wait for the model."""
        model = self.served(asked.model).engine.model
        self._reader(asked)
        if asked.budget is not None:
            check_budget(model, asked.budget)

    def answer(self, asked: Asked, told: Told | None = None) -> tuple[Prediction, tuple[int, int]]:
        """The prediction for a video, and its width and height in pixels.

        told: is called from this thread with what is known of each window, as soon as it is. DataError for a
        video that cannot be used; Stopped where nobody waits for the answer, or it takes too long.
        """
        engine = self.served(asked.model).engine
        watch, started = Stopwatch("decode", "transform", "model"), time.monotonic()
        labels = labels_of(engine.model)
        before = -1

        def run(window: Window, frames: Any) -> ModelOutput:
            nonlocal before
            self._go_on(asked, started)
            with self.turn(asked.model, asked.budget), watch("model"):
                output = finite(engine.run(frames), asked.name)
            if told:
                if window.first <= before:  # the video has other windows than it seemed
                    told({"event": "again"})
                before = window.first
                scores = engine.model.probabilities(output.logits.mean(0).float())
                classes = [vars(each) for each in ranked(scores, labels, asked.top)]
                times = {"start_s": window.start_s, "end_s": window.end_s}
                told({"event": "window", **times, "predictions": classes})
            return output

        self._go_on(asked, started)
        with self.turn(asked.model, asked.budget):
            reader = self._children.reading(self._reader(asked))
        try:
            with reader.open(asked.source, watch=watch) as video:
                answers = video.map(run)
                facts = replace(video.facts(), name=asked.name)
        except DataError as error:
            raise DataError(asked.name, error.cause, error.hint) from error
        prediction = describe(engine.model, facts, answers, asked.top, dict(watch.milliseconds))
        return prediction, (facts.width, facts.height)

    @contextmanager
    def turn(self, model: str, budget: str | None = None) -> Iterator[None]:
        """While the block runs, no other one does, and the model has this budget."""
        dial = self.served(model).dial
        with self._model_runs:
            if dial is not None:
                dial.set(budget)
            elif budget is not None:
                curve_of(self.models[model].engine.model)  # raises, and says why
            yield

    def close(self) -> None:
        self._children.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reader(self, asked: Asked) -> ClipReader:
        """What reads a video for a model, which may need fewer frames at its budget."""
        served = self.models[asked.model]
        return replace(served.reader, window=asked.window, needed=served.engine.model.frames_needed)

    def _go_on(self, asked: Asked, started: float) -> None:
        if asked.gone.is_set():
            raise Stopped("gone")
        if self.stopping.is_set():
            raise Stopped("stopping")
        if time.monotonic() - started > self.settings.answer_s:
            raise Stopped("late")


def _served(engine: Engine, settings: Settings) -> Served:
    """A model, run once so that the first video is not slower than others."""
    model = engine.model
    if model.spec.modality == "flow":
        hint = "it answers of folders of flow: foveate predict"
        raise UsageError(model.name, "reads optical flow, which no video has that is sent", hint)
    reader = ClipReader(
        model.spec, needed=model.frames_needed, in_chunks=model.takes_chunks, limits=settings.reading()
    )
    engine.warmup()
    black = torch.zeros(clip_shape(model, 1), dtype=torch.uint8)
    try:
        macs = engine.run(black).macs
    except FoveateError:  # as of a model that reads other clips than these
        macs = None
    dial = BudgetDial(engine) if model.dial is not None and model.curve is not None else None
    return Served(engine, reader, float("nan") if macs is None else float(macs.sum()) / 1e9, dial)
