"""What the verbs print: tables for people, JSON for programs, remarks on standard error."""

from __future__ import annotations

import csv
import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

WIDE = 1000  # columns where no terminal limits the line: nothing is folded in a file or a pipe


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output. A '#' after a column's name puts it flush right; the first never folds."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for number, column in enumerate(columns):
        side: Literal["left", "right"] = "right" if column.endswith("#") else "left"
        table.add_column(column.removesuffix("#"), justify=side, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*map(_cell, row))
    width = None if sys.stdout.isatty() else WIDE
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def print_line(line: str = "") -> None:
    """A line on standard output."""
    sys.stdout.write(plain(line) + "\n")


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output; NaN and infinity, which JSON lacks, become null."""
    readable = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(_finite(value), ensure_ascii=not readable, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_csv(cells: Sequence[object]) -> None:
    """A line of comma-separated values on standard output, quoted as RFC 4180 says."""
    csv.writer(sys.stdout, lineterminator="\n").writerow(cells)
    sys.stdout.flush()


def say(line: str) -> None:
    """A remark on standard error, which leaves standard output to results."""
    sys.stderr.write(plain(line) + "\n")


def plain(text: str) -> str:
    """The text with everything escaped that would break a line or steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Gives report(done, total), which moves a bar on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bars:
        bar = bars.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        yield report


@contextmanager
def library_remarks() -> Iterator[None]:
    """What the library logs is said, too."""
    logger, handler = logging.getLogger("foveate"), _Remarks()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Remarks(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(("warning: " if record.levelno >= logging.WARNING else "") + record.getMessage())


def readable(scores: Mapping[str, float]) -> dict[str, float | int]:
    """Measures as they are, counts as whole numbers."""
    counts = ("absent", "n_ok", "n_total")
    return {name: int(value) if name in counts else value for name, value in scores.items()}


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
