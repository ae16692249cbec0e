"""Accuracy against what it costs, and who needs least: `python -m experiments.frontier`.

Reads the cells of the signals experiment and, for milliseconds, what `python -m benchmarks signals` has
measured. Writes two plots and a table beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.record import RESULTS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.plot import tick
from experiments.runner import read_cell
from experiments.signals import EXPERIMENT, SYSTEMS

Box = tuple[float, float, float, float]
COSTS = {"mmacs": "multiply-adds of a video, millions", "ms_1": "milliseconds of a video, alone"}
COSTS |= {"ms_8": "milliseconds of a video, in batches of 8"}
PLOTS = ("ms_1", "mmacs")
OURS = ("uni", "v2")
# filled: systems that choose where and when to look; the shapes are told apart without colours
STYLES: dict[str, dict[str, Any]] = {
    "uni": {"label": "Uni-AdaFocus", "marker": "o", "color": "black"},
    "v2": {"label": "AdaFocusV2", "marker": "s", "color": "black"},
    "tsm": {"label": "TSM", "marker": "^", "color": "black", "mfc": "white"},
    "tsn": {"label": "TSN", "marker": "D", "color": "black", "mfc": "white"},
    "arnet": {"label": "AR-Net", "marker": "P", "color": "black", "mfc": "white"},
    "slowfast": {"label": "SlowFast", "marker": "X", "color": "black", "mfc": "white"},
    "full": {"label": "every frame, in clusters", "marker": "*", "color": "black", "mfc": "white"},
}


@dataclass(frozen=True)
class Point:
    """A system. top1: of each seed, percent. costs: by the names of COSTS, those that are known."""

    name: str
    top1: tuple[float, ...]
    costs: dict[str, float]

    @property
    def height(self) -> float:
        return mean(self.top1)

    @property
    def family(self) -> str:
        return self.name.split("_")[0]

    @property
    def ours(self) -> bool:
        return self.family in OURS


@dataclass(frozen=True)
class Saving:
    """The cheapest of ours that is at least as good as a baseline, and how many times as much that costs."""

    ours: Point
    theirs: Point
    times: float


def points() -> list[Point]:
    """The systems that are finished in every seed."""
    spent: dict[str, dict[str, float]] = {name: {} for name in SYSTEMS}
    timed = RESULTS / "signals.json"
    for row in json.loads(timed.read_text())["rows"] if timed.exists() else ():
        spent[row["system"]][f"ms_{row['batch']}"] = row["ms"]["median"]
    found = []
    for name in SYSTEMS:
        cells = [cell for seed in EXPERIMENT.seeds if (cell := read_cell(EXPERIMENT, name, seed))]
        if len(cells) == len(EXPERIMENT.seeds):
            numbers = [cell["numbers"] for cell in cells]
            costs = {"mmacs": mean(each["mmacs"] for each in numbers)} | spent[name]
            found.append(Point(name, tuple(100 * each["top1"] for each in numbers), costs))
    return found


def frontier(some: Sequence[Point], cost: str) -> list[Point]:
    """Those that nothing cheaper or as cheap is as good as, cheapest first."""
    best: list[Point] = []
    for point in sorted((p for p in some if cost in p.costs), key=lambda p: (p.costs[cost], -p.height)):
        if not best or point.height > best[-1].height:
            best.append(point)
    return best


def savings(some: Sequence[Point], cost: str) -> Iterator[Saving]:
    """For each point of the baselines' frontier that ours reach; a bound, as ours may be better as well."""
    ours = frontier([point for point in some if point.ours], cost)
    for theirs in frontier([point for point in some if not point.ours], cost):
        for point in ours:
            if point.height >= theirs.height:
                yield Saving(point, theirs, theirs.costs[cost] / point.costs[cost])
                break


def draw(some: Sequence[Point], cost: str) -> Figure:
    """Means as markers, seeds as thin lines beside them, both frontiers."""
    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    axes = figure.subplots()
    seen: set[str] = set()
    for point in some:
        if cost not in point.costs:
            continue
        style, x = dict(STYLES[point.family]), point.costs[cost]
        style["label"] = "" if point.family in seen else style["label"]
        seen.add(point.family)
        axes.vlines(x, min(point.top1), max(point.top1), color="black", lw=0.4)
        axes.hlines(point.top1, x / 1.02, x * 1.02, color="black", lw=0.6)
        axes.plot(x, point.height, linestyle="", ms=8, **style)
    for ours, line, label in (
        (True, "-", "best that choose patches"),
        (False, "--", "best of all others"),
    ):
        best = frontier([point for point in some if point.ours == ours], cost)
        xs, ys = [p.costs[cost] for p in best], [p.height for p in best]
        axes.plot(xs, ys, line, color="black", lw=1.2, zorder=0, label=label)
    axes.set(xscale="log", xlabel=COSTS[cost], ylabel="test clips named rightly, %")
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(FuncFormatter(tick))
    axes.grid(alpha=0.25)
    axes.margins(x=0.08)
    figure.legend(loc="outside upper center", ncols=4, fontsize=9)
    figure.draw_without_rendering()  # which settles where everything stands
    name_points(axes, [point for point in some if cost in point.costs and point.name != "full_video"], cost)
    return figure


def name_points(axes: Axes, some: Sequence[Point], cost: str) -> None:
    """The name of each without its family, beside its marker where no other marker or name stands."""
    spots = [axes.transData.transform((point.costs[cost], point.height)) for point in some]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in spots]  # pixels: left, bottom, right, top
    for point, (x, y) in zip(some, spots, strict=True):
        text = " ".join(point.name.split("_")[1:])
        width, height = 6 * len(text), 10
        boxes = [
            (left, y + shift - height / 2, left + width, y + shift + height / 2)
            for shift in (0, 10, -10, 20, -20)
            for left in (x + 11, x - 11 - width)
        ]
        free = [box for box in boxes if not any(overlap(box, other) for other in taken)]
        box = (free or boxes)[0]
        taken.append(box)
        place = (box[0] - x) * 0.72, (box[1] - y) * 0.72  # points, of which 72 are 100 pixels
        spot = (point.costs[cost], point.height)
        axes.annotate(text, spot, place, textcoords="offset points", fontsize=8, va="bottom")


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def report(some: Sequence[Point]) -> str:
    """The table of all systems, and what is saved at equal accuracy."""
    lines = ["| system | top-1, % | " + " | ".join(COSTS.values()) + " |", "| --- |" + " ---: |" * 4]
    for point in some:
        spent = [f"{point.costs[cost]:#.4g}".rstrip(".") if cost in point.costs else "" for cost in COSTS]
        seeds = ", ".join(f"{value:.1f}" for value in point.top1)
        lines.append(f"| {point.name} | {point.height:.1f} ({seeds}) | " + " | ".join(spent) + " |")
    lines += ["", "| baseline | at least as good | cost | baseline / ours |", "| --- | --- | --- | ---: |"]
    for cost, title in COSTS.items():
        for saving in savings(some, cost):
            theirs, ours = (f"{p.name}, {p.height:.1f} %" for p in (saving.theirs, saving.ours))
            lines.append(f"| {theirs} | {ours} | {title} | {saving.times:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    some = points()
    for cost in PLOTS:
        if any(cost in point.costs for point in some):
            draw(some, cost).savefig(EXPERIMENT.folder / f"frontier_{cost}.png", dpi=130)
    text = "# Accuracy and cost\n\n![time](frontier_ms_1.png)\n\n![multiply-adds](frontier_mmacs.png)\n\n"
    text += "Means over the seeds, each of which stands in brackets. Command: "
    text += "`python -m experiments.frontier`; milliseconds: `python -m benchmarks signals`.\n\n"
    (EXPERIMENT.folder / "FRONTIER.md").write_text(text + report(some))


if __name__ == "__main__":
    main()
