"""How a run is shown while it goes: a bar on a terminal, plain lines elsewhere, curves on request.

Both say from the first minute how much time is left and how much memory was needed.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveate.errors import UsageError
from foveate.measure.cost import peak_memory_mb
from foveate.train.config import TrainConfig
from foveate.train.run import Record

log = logging.getLogger(__name__)

PLACE = ("kind", "epoch", "step")
UNSAID = (*PLACE, "memory_mb")  # said by other words
FIRST_LINE, PAUSE = 10.0, 60.0  # seconds of training before the first plain line, and between two


class Display(Protocol):
    """Something that follows a run."""

    def advance(self, step: int) -> None: ...

    def show(self, record: Record) -> None: ...

    def close(self) -> None: ...


class Lines:
    """Plain lines for a file or a pipe: one within the first minute, then one a minute, and each epoch's."""

    def __init__(self, config: TrainConfig, steps: int, done: int, device: torch.device) -> None:
        self._epochs, self._steps, self._done, self._device = config.epochs, steps, done, device
        self._step, self._start = done, time.monotonic()
        self._next = self._start + FIRST_LINE
        self._latest: Record = {}

    def advance(self, step: int) -> None:
        """A line if it is time for one."""
        self._step = step
        if time.monotonic() >= self._next:
            self._say(f"epoch {1 + step * self._epochs // (self._steps + 1)} of {self._epochs}", self._latest)

    def show(self, record: Record) -> None:
        """A line for an epoch; that of a step waits for the next one."""
        self._latest = record
        if record["kind"] == "epoch":
            self._say(f"epoch {record['epoch'] + 1} of {self._epochs}", record)

    def close(self) -> None:
        """Nothing to end."""

    def _say(self, place: str, record: Record) -> None:
        now = time.monotonic()
        self._next = now + PAUSE
        left = (now - self._start) * (self._steps - self._step) / max(self._step - self._done, 1)
        facts = [f"{duration(left)} left"] if self._step < self._steps else []
        facts.append(f"peak memory {peak_memory_mb(self._device):.0f} MB")
        text = _text(record)
        said = ", ".join(facts)
        log.info(
            "%s, step %d of %d: %s", place, self._step, self._steps, f"{text}  ({said})" if text else said
        )


class Bar:
    """A bar with the time left and the latest record; the records of epochs stay above it."""

    def __init__(
        self, config: TrainConfig, steps: int, done: int, device: torch.device, console: Console
    ) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self._epochs, self._device = config.epochs, device
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=steps, completed=done)
        self._progress.start()

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def show(self, record: Record) -> None:
        """Beside the bar, or above it for an epoch."""
        if record["kind"] == "epoch":
            place = f"epoch {record['epoch'] + 1} of {self._epochs}"
            self._progress.console.print(f"{place}: {_text(record)}", highlight=False)
        else:
            text = f"{_text(record)}  peak memory {peak_memory_mb(self._device):.0f} MB"
            self._progress.update(self._task, description=text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()


class Curves:
    """Every number of a record as a TensorBoard scalar, in the folder `tensorboard` of the run."""

    def __init__(self, folder: Path, done: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError("tensorboard", "is not installed", "pip install tensorboard") from error
        self._writer = SummaryWriter(folder / "tensorboard", purge_step=done or None)

    def advance(self, step: int) -> None:
        """Nothing to show between records."""

    def show(self, record: Record) -> None:
        """One point on each curve."""
        for name, value in record.items():
            if name not in PLACE:
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


class Displays:
    """Several displays as one, closed with the context."""

    def __init__(self, *displays: Display) -> None:
        self._displays = displays

    def __enter__(self) -> Displays:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for display in self._displays:
            display.close()

    def advance(self, step: int) -> None:
        """`step` optimizer steps are done."""
        for display in self._displays:
            display.advance(step)

    def show(self, record: Record) -> None:
        """A line of metrics.jsonl."""
        for display in self._displays:
            display.show(record)


def open_displays(
    folder: Path, steps: int, done: int, config: TrainConfig, device: torch.device, console: Console
) -> Displays:
    """What suits the console; `done` of `steps` optimizer steps lie behind."""
    shown: list[Display] = [Lines(config, steps, done, device)]
    if console.is_terminal:
        shown = [Bar(config, steps, done, device, console)]
    return Displays(*shown, *([Curves(folder, done)] if config.tensorboard else []))


def duration(seconds: float) -> str:
    """In words: 40 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _text(record: Record) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in record.items()
        if name not in UNSAID and "_after_" not in name  # a measure after each frame makes a curve
    )
