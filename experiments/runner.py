"""Tables of (variant, seed) cells: each finished cell is a JSON file, kept and never run again.

An experiment is one published claim. Its cells run one after the other in processes of their own, so that a
killed one costs only itself and a peak of memory is its own; the table and the plot are made anew from the
cells that are there. Every cell says the command, the settings, the versions and the machine that made it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate import __version__

RESULTS = Path(__file__).parent / "results"
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
    """One claim, the variants that test it, and the function that trains and measures one of them."""

    name: str
    claim: str  # one or two sentences, shown above the table
    variants: Sequence[str]
    columns: Sequence[Column]
    run: Callable[[str, int], Numbers]  # (variant, seed) -> numbers, at most 10 minutes on two cores
    settings: Mapping[str, Any]  # everything that the numbers depend on beside variant and seed
    seeds: Sequence[int] = (0, 1, 2)
    plot: tuple[str, str] | None = None  # keys of the horizontal and the vertical axis
    after: str = ""  # what was found, below the table

    @property
    def folder(self) -> Path:
        return RESULTS / self.name

    def cell(self, variant: str, seed: int) -> Path:
        return self.folder / "cells" / f"{variant}-seed{seed}.json"


def run_cell(experiment: Experiment, variant: str, seed: int) -> None:
    """Compute one cell in this process and keep it; the file appears whole or not at all."""
    start = time.perf_counter()
    numbers = experiment.run(variant, seed)
    record = {
        "experiment": experiment.name,
        "variant": variant,
        "seed": seed,
        "numbers": numbers,
        "seconds": round(time.perf_counter() - start, 1),
        "settings": dict(experiment.settings),
        "command": f"python -m experiments {experiment.name}",
        "versions": {"foveate": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
    }
    path = experiment.cell(variant, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)


def run_all(experiment: Experiment, only: str = "*") -> int:
    """Run the cells that are missing, each in a child process. Returns how many failed."""
    failed = 0
    for seed in experiment.seeds:
        for variant in experiment.variants:
            if not Path(variant).match(only) or read_cell(experiment, variant, seed):
                continue
            print(f"{experiment.name}: {variant}, seed {seed}", flush=True)
            words = [sys.executable, "-m", "experiments", experiment.name, "--cell", variant, str(seed)]
            failed += subprocess.run(words, check=False).returncode != 0
            write_table(experiment)
    write_table(experiment)
    return failed


def read_cell(experiment: Experiment, variant: str, seed: int) -> dict[str, Any] | None:
    """A finished cell, or None. One made with other settings stops everything: numbers must not mix."""
    path = experiment.cell(variant, seed)
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    if record["settings"] != json.loads(json.dumps(dict(experiment.settings))):
        sys.exit(f"error: {path}: made with other settings (move it away to run it again)")
    return record


def rows(experiment: Experiment) -> list[tuple[str, int, dict[str, tuple[float, float]]]]:
    """(variant, seeds, key -> (mean, standard deviation over the seeds)) of what is there."""
    found = []
    for variant in experiment.variants:
        cells = [read_cell(experiment, variant, seed) for seed in experiment.seeds]
        numbers = [cell["numbers"] for cell in cells if cell]
        if numbers:
            found.append((variant, len(numbers), {key: spread([n[key] for n in numbers]) for key in numbers[0]}))
    return found


def spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def write_table(experiment: Experiment) -> None:
    """results/NAME/README.md and plot.png from the finished cells."""
    found = rows(experiment)
    if not found:
        return
    head = ["variant", "seeds", *(column.title for column in experiment.columns)]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for variant, seeds, numbers in found:
        cells = [_text(numbers.get(column.key), column) for column in experiment.columns]
        lines.append(f"| {variant} | {seeds} | " + " | ".join(cells) + " |")
    text = [f"# {experiment.name}", experiment.claim, "\n".join(lines), "Mean +- standard deviation over the seeds."]
    if experiment.after:
        text.append(experiment.after)
    settings = ", ".join(f"{key} {value}" for key, value in experiment.settings.items())
    text.append(f"Command: `python -m experiments {experiment.name}`. Settings: {settings}.")
    experiment.folder.mkdir(parents=True, exist_ok=True)
    if experiment.plot:
        write_plot(experiment, found)
        text.append("![plot](plot.png)")
    (experiment.folder / "README.md").write_text("\n\n".join(text) + "\n")


def _text(value: tuple[float, float] | None, column: Column) -> str:
    if value is None:
        return ""
    mean, deviation = (number * column.scale for number in value)
    return f"{mean:.{column.digits}f} +- {deviation:.{column.digits}f}"


def write_plot(experiment: Experiment, found: Sequence[tuple[str, int, dict[str, tuple[float, float]]]]) -> None:
    """Every variant as a point with the spread over the seeds; the horizontal axis is logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    assert experiment.plot
    titles = {column.key: (column.title, column.scale) for column in experiment.columns}
    (x_key, y_key) = experiment.plot
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for variant, _, numbers in found:
        (x, dx), (y, dy) = (tuple(v * titles[key][1] for v in numbers[key]) for key in (x_key, y_key))
        axes.errorbar(x, y, xerr=dx, yerr=dy, fmt="o", capsize=3)
        axes.annotate(variant, (x, y), textcoords="offset points", xytext=(6, 5), fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel(titles[x_key][0])
    axes.set_ylabel(titles[y_key][0])
    axes.set_title(experiment.name)
    axes.grid(alpha=0.3)
    figure.savefig(experiment.folder / "plot.png", dpi=130)
    plt.close(figure)
