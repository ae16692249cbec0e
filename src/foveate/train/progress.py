"""How a run is shown while it goes: a bar on a terminal, plain lines elsewhere, curves on request."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveate.errors import UsageError
from foveate.train.run import Record

log = logging.getLogger(__name__)

PLACE = ("kind", "epoch", "step")


class Display(Protocol):
    """Something that follows a run."""

    def advance(self, step: int) -> None: ...

    def show(self, record: Record) -> None: ...

    def close(self) -> None: ...


class Lines:
    """Every record as a line of the log."""

    def advance(self, step: int) -> None:
        """Nothing to show between records."""

    def show(self, record: Record) -> None:
        """One line."""
        log.info("epoch %d step %d: %s", record["epoch"], record["step"], _text(record))

    def close(self) -> None:
        """Nothing to end."""


class Bar:
    """A bar with the time left and the latest record; the records of epochs stay above it."""

    def __init__(self, steps: int, done: int, console: Console) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=steps, completed=done)
        self._progress.start()

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def show(self, record: Record) -> None:
        """Beside the bar, or above it for an epoch."""
        if record["kind"] == "epoch":
            self._progress.console.print(f"epoch {record['epoch']}: {_text(record)}", highlight=False)
        else:
            self._progress.update(self._task, description=_text(record))

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


def open_displays(folder: Path, steps: int, done: int, tensorboard: bool, console: Console) -> Displays:
    """What suits the console; `done` of `steps` optimizer steps lie behind."""
    shown: list[Display] = [Bar(steps, done, console) if console.is_terminal else Lines()]
    return Displays(*shown, *([Curves(folder, done)] if tensorboard else []))


def _text(record: Record) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in record.items()
        if name not in PLACE
    )
