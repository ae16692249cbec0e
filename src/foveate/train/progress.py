"""How a run is shown while it goes: a bar on a terminal, plain lines elsewhere, curves on request.

Both say from the first minute how much time is left and how much memory was needed.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

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


@dataclass(frozen=True)
class Steps:
    """Optimizer steps of a training, of which `done` lie behind at its start, and of the stages after it."""

    total: int
    done: int = 0
    later: int = 0


class Clock:
    """How much time is left, of all stages: the steps to come at the mean pace of those since the start."""

    def __init__(self, steps: Steps) -> None:
        self._steps, self._start = steps, time.monotonic()

    def left(self, step: int) -> float:
        """Seconds after so many steps of this training."""
        steps, taken = self._steps, time.monotonic() - self._start
        return taken * (steps.total - step + steps.later) / max(step - steps.done, 1)


class Lines:
    """Plain lines for a file or a pipe: one within the first minute, then one a minute, and each epoch's."""

    def __init__(self, config: TrainConfig, steps: Steps, device: torch.device) -> None:
        self._epochs, self._steps, self._device = config.epochs, steps, device
        self._step, self._clock = steps.done, Clock(steps)
        self._next = time.monotonic() + FIRST_LINE
        self._latest: Record = {}

    def advance(self, step: int) -> None:
        """A line if it is time for one."""
        self._step = step
        if time.monotonic() >= self._next:
            self._say(
                f"epoch {1 + step * self._epochs // (self._steps.total + 1)} of {self._epochs}", self._latest
            )

    def show(self, record: Record) -> None:
        """A line for an epoch; that of a step waits for the next one."""
        self._latest = record
        if record["kind"] == "epoch":
            self._say(f"epoch {record['epoch'] + 1} of {self._epochs}", record)

    def close(self) -> None:
        """Nothing to end."""

    def _say(self, place: str, record: Record) -> None:
        self._next = time.monotonic() + PAUSE
        left = self._clock.left(self._step)
        facts = [f"{duration(left)} left"] if self._step < self._steps.total + self._steps.later else []
        facts.append(f"peak memory {peak_memory_mb(self._device):.0f} MB")
        text = _text(record)
        said = ", ".join(facts)
        log.info(
            "%s, step %d of %d: %s",
            place,
            self._step,
            self._steps.total,
            f"{text}  ({said})" if text else said,
        )


class Bar:
    """A bar with the time left of all stages and the latest record; the records of epochs stay above it."""

    def __init__(self, config: TrainConfig, steps: Steps, device: torch.device, console: Console) -> None:
        left = TextColumn("{task.fields[left]}")
        columns = (BarColumn(), MofNCompleteColumn(), left, TextColumn("{task.description}"))
        self._epochs, self._device, self._clock = config.epochs, device, Clock(steps)
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=steps.total, completed=steps.done, left="")
        self._progress.start()

    def advance(self, step: int) -> None:
        """Move the bar."""
        left = f"{duration(self._clock.left(step))} left"
        self._progress.update(self._task, completed=step, left=left)

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
    folder: Path, steps: Steps, config: TrainConfig, device: torch.device, console: Console
) -> Displays:
    """What suits the console."""
    shown: list[Display] = [Lines(config, steps, device)]
    if console.is_terminal:
        shown = [Bar(config, steps, device, console)]
    return Displays(*shown, *([Curves(folder, steps.done)] if config.tensorboard else []))


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
