"""Tables of (variant, seed) cells: each finished cell is a JSON file, kept and never run again.

An experiment is one published claim. Its cells run one after the other in processes of their own, so that a
killed one costs only itself, and its peak of memory is its own; the table is made anew from the cells that
are there. Every cell says the command, the settings, the versions and the machine that made it.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.surroundings import machine, versions

from foveate.errors import UsageError

RESULTS = Path(__file__).parent / "results"
WORK = Path("work/experiments")
NOTE = "Mean ± standard deviation over the seeds. The files in `cells/` say settings, versions and machine."
Numbers = dict[str, float]


@dataclass(frozen=True)
class Column:
    """One column of a table. scale: factor before printing, 100 for shares as percent."""

    key: str  # of the cell's numbers
    title: str
    scale: float = 1.0
    digits: int = 1


@dataclass(frozen=True)
class Experiment:
    """One claim, the variants that test it, and the function that trains and measures one of them.

    run: (variant, seed) -> numbers, at most 10 minutes on two cores.
    """

    name: str
    claim: str  # one or two sentences, shown above the table
    variants: Sequence[str]
    columns: Sequence[Column]
    run: Callable[[str, int], Numbers]
    settings: Mapping[str, Any]  # everything that the numbers depend on beside variant and seed
    seeds: Sequence[int] = (0, 1, 2)
    plot: tuple[str, ...] = ()  # keys of the horizontal axes, a panel each, and of the vertical one
    after: str = ""  # what was found, below the table
    results: Path = RESULTS
    work: Path = WORK

    @property
    def folder(self) -> Path:
        return self.results / self.name

    @property
    def command(self) -> str:
        return f"python -m experiments {self.name}"

    def cell(self, variant: str, seed: int) -> Path:
        return self.folder / "cells" / f"{variant}-seed{seed}.json"

    def scratch(self, variant: str, seed: int) -> Path:
        """A folder where a cell keeps what it needs to go on after a kill; removed once it is finished."""
        return self.work / self.name / f"{variant}-seed{seed}"


@dataclass(frozen=True)
class Row:
    """A variant over the seeds that are finished. numbers: (mean, standard deviation) by key."""

    variant: str
    seeds: int
    numbers: Mapping[str, tuple[float, float]]


def run_all(experiment: Experiment, only: str = "*", seed: int | None = None) -> int:
    """Run the cells that are missing, each in a child process; returns how many failed.

    only: shell pattern of variants. seed: one of the experiment's, None for all. A finished cell of other
    settings raises UsageError before anything runs.
    """
    seeds = experiment.seeds if seed is None else (seed,)
    wanted = [(v, number) for number in seeds for v in experiment.variants if fnmatch(v, only)]
    missing = [cell for cell in wanted if read_cell(experiment, *cell) is None]
    failed = 0
    for variant, number in missing:
        print(f"{experiment.name}: {variant}, seed {number}", flush=True)
        child = get_context("spawn").Process(target=run_cell, args=(experiment, variant, number))
        child.start()
        child.join()
        failed += child.exitcode != 0
        write_table(experiment)
    if not missing:
        write_table(experiment)
    return failed


def run_cell(experiment: Experiment, variant: str, seed: int) -> None:
    """Compute one cell in this process and keep it; its file appears whole or not at all."""
    path, scratch = experiment.cell(variant, seed), experiment.scratch(variant, seed)
    resumed = scratch.exists()
    scratch.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    numbers = experiment.run(variant, seed)
    record = {
        "experiment": experiment.name,
        "variant": variant,
        "seed": seed,
        "numbers": numbers,
        "seconds": round(time.perf_counter() - start, 1),  # of this process; a killed one had some before
        "resumed": resumed,
        "settings": dict(experiment.settings),
        "command": experiment.command,
        "versions": versions(),
        "machine": machine(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)
    shutil.rmtree(scratch)


def read_cell(experiment: Experiment, variant: str, seed: int) -> dict[str, Any] | None:
    """A finished cell, or None. One of other settings raises UsageError: numbers must not mix."""
    path = experiment.cell(variant, seed)
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    settings = json.loads(json.dumps(dict(experiment.settings)))
    other = [key for key in record["settings"] if not _agree(record["settings"][key], settings.get(key))]
    other += settings.keys() - record["settings"].keys()
    if other:
        raise UsageError(path, f"was made with another {other[0]}", "move it away to run it again")
    return record


def _agree(then: Any, now: Any) -> bool:
    """Whether all that a cell was made with stands as it did; fields that came later have their defaults."""
    if isinstance(then, dict) and isinstance(now, dict):
        return all(key in now and _agree(value, now[key]) for key, value in then.items())
    return bool(then == now)


def rows(experiment: Experiment) -> list[Row]:
    """What is there, in the order of the variants."""
    found = []
    for variant in experiment.variants:
        cells = [read_cell(experiment, variant, seed) for seed in experiment.seeds]
        numbers = [cell["numbers"] for cell in cells if cell]
        if numbers:
            spreads = {key: _spread([each[key] for each in numbers]) for key in numbers[0]}
            found.append(Row(variant, len(numbers), spreads))
    return found


def write_table(experiment: Experiment) -> None:
    """README.md and, if the experiment has one, plot.png of its folder from the finished cells."""
    found = rows(experiment)
    if not found:
        return
    titles = ["variant", "seeds", *(column.title for column in experiment.columns)]
    lines = ["| " + " | ".join(titles) + " |", "| --- |" + " ---: |" * (len(titles) - 1)]
    for row in found:
        cells = [_text(row.numbers.get(column.key), column) for column in experiment.columns]
        lines.append(f"| {row.variant} | {row.seeds} | " + " | ".join(cells) + " |")
    parts = [f"# {experiment.name}", experiment.claim, "\n".join(lines)]
    parts += [f"{NOTE} Command: `{experiment.command}`.", experiment.after]
    parts += ["![plot](plot.png)"] if experiment.plot else []
    (experiment.folder / "README.md").write_text("\n\n".join(filter(None, parts)) + "\n")
    if experiment.plot:
        from experiments.plot import write_plot

        write_plot(experiment, found)


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _text(value: tuple[float, float] | None, column: Column) -> str:
    if value is None:  # measured for other variants only
        return ""
    mean, deviation = (number * column.scale for number in value)
    return f"{mean:.{column.digits}f} ± {deviation:.{column.digits}f}"
