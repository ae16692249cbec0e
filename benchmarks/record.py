"""Repeats in turns, their median and quartiles, and a table of them as JSON and Markdown.

What is compared runs in turns, round after round, so that a machine that slows down for a while slows all of
it down; ratios are taken within a round.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.surroundings import machine, versions
from foveate.io import atomic_write

RESULTS = Path(__file__).parent / "results"
WORK = Path("work/benchmarks")
T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some repeats."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """At least 2 values."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    def __str__(self) -> str:
        return f"{_number(self.median)} ({_number(self.low)} to {_number(self.high)})"


Value = str | int | float | Spread


@dataclass(frozen=True)
class Table:
    """What one benchmark measured. columns: title by key; every row has a value for each key."""

    about: str  # what is measured and how
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Value]]


def in_turns(calls: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """What each call returns, `repeats` times; each round begins with another one, after one round unseen."""
    results: dict[str, list[T]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(repeats + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            result = calls[name]()
            if turn:
                results[name].append(result)
    return results


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(of: Sequence[float], to: Sequence[float]) -> Spread:
    """The quotient of two lists of repeats, round by round."""
    return Spread.of([a / b for a, b in zip(of, to, strict=True)])


def write(name: str, table: Table, folder: Path = RESULTS, command: str = "") -> Path:
    """NAME.json with all there is to know and NAME.md with the table; returns the latter's path.

    command: that measured it, if not `python -m benchmarks NAME`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = command or f"python -m benchmarks {name}"
    facts = {"command": command, "date": time.strftime("%Y-%m-%d")}
    surroundings = {"versions": versions(), "machine": machine()}
    record = {"benchmark": name, **facts, **surroundings, **asdict(table)}
    with atomic_write(folder / f"{name}.json") as part:  # the one before stays if this process is killed here
        part.write_text(json.dumps(record, indent=1) + "\n")
    path = folder / f"{name}.md"
    path.write_text(_markdown(name, table, command))
    return path


def collect(names: Iterable[str], folder: Path = RESULTS) -> None:
    """all.json and all.md from the results that there are, each with its own date, machine and versions."""
    there = [name for name in names if (folder / f"{name}.json").exists()]
    records = [json.loads((folder / f"{name}.json").read_text()) for name in there]
    (folder / "all.json").write_text(json.dumps(records) + "\n")
    (folder / "all.md").write_text("\n".join((folder / f"{name}.md").read_text() for name in there))


def _markdown(name: str, table: Table, command: str) -> str:
    texts = [[_text(row[key]) for key in table.columns] for row in table.rows]
    lines = [list(table.columns.values()), ["---"] * len(table.columns), *texts]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    place = ", ".join(f"{key} {value}" for key, value in (machine() | versions()).items())
    note = f"Median (lower to upper quartile). Command: `{command}`, {time.strftime('%Y-%m-%d')}; {place}."
    return f"# {name}\n\n{table.about}\n\n{body}\n\n{note}\n"


def _text(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """Three digits, all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
