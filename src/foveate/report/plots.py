"""The plots of a report, as SVG inside the page, drawn by matplotlib.

Text and axes take the colour of the page (`currentColor`), so one picture serves light, dark and print. Each
is as wide as a phone; a wide screen shows several in a row.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from foveate.models.budget import Curve
from foveate.report.folder import StageLog
from foveate.report.summary import WORDS, percent

Array = NDArray[Any]
INK = "#010203"  # stands for the colour of the page until the SVG is written
COLOURS = ("#2f7de1", "#d9701f", "#23935b", "#9463d0", "#d64550", "#178f9e", "#a07a12", "#7d828a")
STYLES = ("-", "--", "-.", ":")
WIDTH, HEIGHT = 3.9, 2.6  # inches of 72 units
NAMED = 15  # classes up to which a confusion matrix shows its numbers
MOST_CELLS = 60  # classes up to which there is one
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "foveate",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.prop_cycle": cycler(color=COLOURS),
    "legend.frameon": False,
    "legend.fontsize": 8,
    "grid.alpha": 0.2,
    "figure.subplot.left": 0.2,  # fixed margins: to work them out takes longer than to draw
    "figure.subplot.right": 0.96,
    "figure.subplot.top": 0.89,
    "figure.subplot.bottom": 0.18,
} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
)
KNOWN = {
    "kind", "epoch", "step", "lr", "loss", "top1", "samples", "bad", "seconds", "eval_seconds", "memory_mb",
    "data_wait_share", "samples_per_s",
}  # fmt: skip
OWN_WORDS = {  # of the losses that recipes with several record
    "apart": "distance of policy and guide",
    "guide_loss": "loss of the guide",
    "answer_loss": "loss of the answer",
    "accuracy_loss": "loss of the answer",
}


@dataclass(frozen=True)
class Plot:
    """One picture. svg: to be put into a page as it is, of any size. alt: what it shows, in words."""

    svg: str
    alt: str
    width: float  # inches


class _Canvas:
    """A figure that becomes an SVG; `plot` is there once the context is closed."""

    def __init__(self, name: str, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height))
        self.name, self.alt = name, ""

    def plot(self) -> Plot:
        out = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        self.figure.savefig(out, format="svg", transparent=True, metadata=nothing)
        svg = out.getvalue()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
        svg = re.sub(r' xmlns(:\w+)?="[^"]*"| (width|height)="[\d.]+pt"', "", svg, count=4)
        svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{self.name}-", svg)  # several stand in one page
        svg = svg.replace(INK, "currentColor").replace("\n", " ")
        svg = svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
        return Plot(svg, self.alt, self.figure.get_figwidth())


@contextmanager
def _canvas(name: str, width: float = WIDTH, height: float = HEIGHT) -> Iterator[_Canvas]:
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that matplotlib's own fonts lack; the browser has them
        yield _Canvas(name, width, height)


def training_plots(log: StageLog, chance: float | None, name: str) -> list[Plot]:
    """Loss, measures, rate and speed of a stage over its epochs, as far as they were recorded."""
    plots = [_loss(log, name), _measures(log, chance, name)]
    plots.append(_by_step(log, "lr", "Learning rate", "rate", f"{name}-rate"))
    others = dict.fromkeys(key for r in log.epochs for key in r if key not in KNOWN and key[:4] != "val_")
    for key in list(others)[:6]:
        word = OWN_WORDS.get(key, key.replace("_", " "))
        plots.append(_by_step(log, key, word[0].upper() + word[1:], word, f"{name}-{key}"))
    plots.append(_by_step(log, "samples_per_s", "Speed", "clips a second", f"{name}-speed"))
    return [plot for plot in plots if plot]


def _points(
    records: Sequence[Mapping[str, Any]], key: str, per_epoch: float
) -> tuple[list[float], list[float]]:
    """Epochs (a step lies between two of them) and values of a number."""
    found = [(r["step"] / per_epoch, r[key]) for r in records if isinstance(r.get(key), int | float)]
    return [x for x, _ in found], [y for _, y in found]


def _line(axes: Axes, xs: Sequence[float], ys: Sequence[float], label: str, number: int) -> None:
    marker = "o" if len(xs) <= 30 else ""
    axes.plot(xs, ys, STYLES[number % 4], marker=marker, ms=3, lw=1.6, color=COLOURS[number % 8], label=label)


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(0, max(1.0, axes.dataLim.xmax) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.grid(True, axis="y")


def _from_to(ys: Sequence[float]) -> str:
    return f"from {ys[0]:.3g} to {ys[-1]:.3g}"


def _shares(ys: Sequence[float] | Array) -> str:
    return f"from {percent(float(ys[0]))} to {percent(float(ys[-1]))}"


def _by_step(log: StageLog, key: str, title: str, unit: str, name: str) -> Plot | None:
    """A number over the steps, or over the epochs where no step recorded it."""
    xs, ys = _points(log.steps, key, log.steps_per_epoch)
    if len(xs) < 2:
        xs, ys = _points(log.epochs, key, log.steps_per_epoch)
    if not xs:
        return None
    with _canvas(name) as canvas:
        axes = canvas.figure.subplots()
        _line(axes, xs, ys, title, 0)
        axes.set(title=title, ylabel=unit)
        if min(ys) >= 0:
            axes.set_ylim(0, max(ys) * 1.08 or 1)
        _epochs(axes)
        canvas.alt = f"{title}, {unit}, by epoch: {_from_to(ys)}."
        return canvas.plot()


def _loss(log: StageLog, name: str) -> Plot | None:
    per_epoch = log.steps_per_epoch
    steps, epochs = _points(log.steps, "loss", per_epoch), _points(log.epochs, "loss", per_epoch)
    if not steps[0] and not epochs[0]:
        return None
    with _canvas(f"{name}-loss") as canvas:
        axes = canvas.figure.subplots()
        if len(steps[0]) > 1:
            axes.plot(*steps, color=COLOURS[0], lw=0.8, alpha=0.45, label="of a step")
        if epochs[0]:
            _line(axes, *epochs, "mean of an epoch", 0)
        axes.set(title="Training loss", ylabel="loss")
        axes.legend()
        _epochs(axes)
        canvas.alt = f"Training loss by epoch: {_from_to((epochs if epochs[0] else steps)[1])}."
        return canvas.plot()


def _measures(log: StageLog, chance: float | None, name: str) -> Plot | None:
    lines = {"top-1 of training": _points(log.epochs, "top1", log.steps_per_epoch)}
    lines |= {
        f"validation {word}": _points(log.epochs, f"val_{key}", log.steps_per_epoch)
        for key, word in WORDS.items()
    }
    shown = {label: points for label, points in lines.items() if points[0]}
    if not shown:
        return None
    with _canvas(f"{name}-measures") as canvas:
        axes = canvas.figure.subplots()
        for number, (label, points) in enumerate(shown.items()):
            _line(axes, *points, label, number)
        if chance is not None:
            axes.axhline(chance, color=COLOURS[7], lw=1, ls=":", label="chance")
        axes.set(title="Measures", ylim=(0, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend()
        _epochs(axes)
        said = [f"{label} {_shares(ys)}" for label, (_, ys) in shown.items()]
        canvas.alt = f"Measures by epoch: {'; '.join(said)}."
        return canvas.plot()


def confusion_plot(counts: Array, classes: Sequence[str]) -> Plot | None:
    """counts: (C, C), videos of each class (row) by what they were taken for; None for too many classes."""
    size = len(classes)
    if not 2 <= size <= MOST_CELLS:
        return None
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(7.0, 2.4 + 0.34 * size)
    with _canvas("confusion", side + 0.8, side) as canvas:
        canvas.figure.set_layout_engine("constrained")  # class names are as long as they are
        axes = canvas.figure.subplots()
        colours = np.empty((size, size, 4))
        colours[..., :3] = to_rgb(COLOURS[0])
        colours[..., 3] = 0.75 * shares  # so that numbers stay readable on it
        axes.imshow(colours, aspect="equal", interpolation="none")
        axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
        axes.grid(True, which="minor", lw=0.5)
        names = [short(name, 16) for name in classes]
        axes.set_xticks(range(size), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), names)
        axes.tick_params(which="both", length=0)
        axes.tick_params(labelsize=8 if size <= 25 else 5)
        axes.set(xlabel="taken for", ylabel="is")
        for row, column in zip(*np.nonzero(counts), strict=True) if size <= NAMED else ():
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8)
        right = np.trace(counts)
        canvas.alt = (
            f"Confusion matrix of {size} classes: {right} of {counts.sum()} videos lie on the diagonal, the "
            "right answers. The table below names the most frequent mistakes."
        )
        return canvas.plot()


def reliability_plot(confidences: Array, right: Array) -> tuple[Plot, float]:
    """How often answers of each confidence are right, and the expected calibration error, in [0, 1].

    confidences: (N,) in [0, 1]. right: (N,) bool.
    """
    edges = np.linspace(0, 1, 11)
    bins = np.clip(np.digitize(confidences, edges[1:-1]), 0, 9)
    counts = np.bincount(bins, minlength=10)
    full = counts > 0
    mean_right = np.bincount(bins, weights=right, minlength=10)[full] / counts[full]
    mean_said = np.bincount(bins, weights=confidences, minlength=10)[full] / counts[full]
    error = float((np.abs(mean_right - mean_said) * counts[full]).sum() / len(confidences))
    with _canvas("reliability", WIDTH, 3.6) as canvas:
        above, below = canvas.figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], ":", color=COLOURS[7], lw=1, label="score = share that is right")
        above.plot(mean_said, mean_right, "-", color=COLOURS[0], lw=1, label="this model")
        above.scatter(mean_said, mean_right, 12 + 120 * counts[full] / len(confidences), color=COLOURS[0])
        above.set(title="Can the scores be believed?", ylabel="share right", ylim=(-0.03, 1.03), xlim=(0, 1))
        above.legend(loc="upper left")
        below.bar(edges[:-1] + 0.05, counts, width=0.09, color=COLOURS[0], alpha=0.6)
        below.set(xlabel="score of the answer", ylabel="videos")
        for axes in (above, below):
            axes.grid(True, axis="y")
        above.yaxis.set_major_formatter(PercentFormatter(1))
        below.xaxis.set_major_formatter(PercentFormatter(1))
        canvas.alt = (
            "Share of right answers against their score in ten steps; a true score lies on the diagonal. "
            f"The mean distance from it (expected calibration error) is {percent(error)}."
        )
        return canvas.plot(), error


def steps_plot(values: Sequence[float], gmacs: float, word: str) -> Plot:
    """A measure of the answers after each frame read. gmacs: of the whole clip."""
    frames = range(1, len(values) + 1)
    with _canvas("steps", WIDTH, 3.0) as canvas:
        canvas.figure.subplots_adjust(top=0.74)
        axes = canvas.figure.subplots()
        axes.plot(frames, values, "o-", color=COLOURS[0], ms=4, lw=1.6)
        axes.set_title(f"{word[0].upper()}{word[1:]} against frames read", pad=12)
        axes.set(xlabel="frames read", ylim=(0, 1.03))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(True, axis="y")
        each = gmacs / len(values)
        above = axes.secondary_xaxis(
            "top", functions=(lambda x: np.asarray(x) * each, lambda x: np.asarray(x) / each)
        )
        above.set_xlabel("GMACs, if every frame costs the same")
        canvas.alt = (
            f"Validation {word} of the answer after each of {len(values)} frames: {percent(values[0])} after "
            f"the first, {percent(max(values))} at best, {percent(values[-1])} after the last."
        )
        return canvas.plot()


def cost_plot(gmacs: Array, right: Array) -> Plot:
    """What each video cost a model that decides by itself, and the share of right answers at that cost."""
    edges = np.histogram_bin_edges(gmacs, bins=min(10, max(3, len(gmacs) // 5)))
    bins = np.clip(np.digitize(gmacs, edges[1:-1]), 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    shares = np.bincount(bins, weights=right, minlength=len(edges) - 1) / np.maximum(counts, 1)
    middles, width = (edges[:-1] + edges[1:]) / 2, np.diff(edges)[0] * 0.9
    with _canvas("cost", WIDTH, 3.4) as canvas:
        above, below = canvas.figure.subplots(2, 1, sharex=True)
        above.plot(middles[counts > 0], shares[counts > 0], "o-", color=COLOURS[0], ms=4, lw=1.6)
        above.set(title="Accuracy against cost", ylabel="share right", ylim=(-0.03, 1.03))
        above.yaxis.set_major_formatter(PercentFormatter(1))
        below.bar(middles, counts, width=width, color=COLOURS[0], alpha=0.6)
        below.set(xlabel="GMACs of a view", ylabel="videos")
        for axes in (above, below):
            axes.grid(True, axis="y")
        canvas.alt = (
            f"Videos by what they cost, from {gmacs.min():.3g} to {gmacs.max():.3g} GMACs a view, mean "
            f"{gmacs.mean():.3g}, with the share of right answers at each cost."
        )
        return canvas.plot()


def budget_plot(curve: Curve, gmacs: float, value: float, word: str) -> Plot:
    """Accuracy against the share of the full cost, and the point in use. gmacs, value: of an evaluation."""
    shares = [point.share for point in curve.points]
    values = [point.accuracy for point in curve.points]
    used = gmacs / curve.full_gmacs
    with _canvas("budget") as canvas:
        axes = canvas.figure.subplots()
        label = f"{curve.videos} videos of its curve"
        axes.plot(shares, values, "o-", color=COLOURS[0], ms=4, lw=1.6, label=label)
        axes.plot([used], [value], "D", color=COLOURS[1], ms=7, label="this evaluation")
        axes.set(xlabel="share of the full cost", xlim=(0, max(1.0, used) * 1.03))
        axes.set_title(f"{word[0].upper()}{word[1:]} by budget")
        axes.set_ylim(top=1.03, bottom=max(0.0, min(*values, value) - 0.1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="lower right")
        axes.grid(True)
        canvas.alt = (
            f"{word[0].upper()}{word[1:]} against the share of the full cost, from {percent(values[0])} at "
            f"{percent(shares[0])} to {percent(values[-1])} at {percent(shares[-1])}; this evaluation: "
            f"{percent(value)} at {percent(used)}."
        )
        return canvas.plot()


def time_plot(name: str, answer: Array, label: Array | None, unit: str) -> Plot:
    """The scores of the final answer and of the true label at K places in time, in [0, 1]."""
    places = range(1, len(answer) + 1)
    with _canvas(name, WIDTH, 1.5) as canvas:
        canvas.figure.subplots_adjust(left=0.14, right=0.74, top=0.95, bottom=0.33)
        axes = canvas.figure.subplots()
        colour = COLOURS[2 if label is None else 4]
        axes.plot(places, answer, "o-", ms=3, lw=1.5, color=colour, label="its answer")
        if label is not None:
            axes.plot(places, label, "s--", ms=3, lw=1.5, color=COLOURS[2], label="the truth")
        axes.set(ylim=(-0.04, 1.04), xlabel=unit)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        truth = "" if label is None else f", of the truth {_shares(label)}"
        canvas.alt = f"Score of its answer over time {_shares(answer)}{truth}."
        return canvas.plot()


def compare_curves(
    runs: Mapping[str, StageLog], key: str, title: str, shares: bool, name: str
) -> Plot | None:
    """A number of the epochs of several runs in one picture."""
    lines = {run: _points(log.epochs, key, log.steps_per_epoch) for run, log in runs.items()}
    shown = {run: points for run, points in lines.items() if points[0]}
    if not shown:
        return None
    with _canvas(name) as canvas:
        axes = canvas.figure.subplots()
        for number, (run, points) in enumerate(shown.items()):
            _line(axes, *points, short(run, 24), number)
        axes.set_title(title)
        if shares:
            axes.set_ylim(0, 1.03)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend()
        _epochs(axes)
        said = [f"{run} {_shares(ys) if shares else _from_to(ys)}" for run, (_, ys) in shown.items()]
        canvas.alt = f"{title} by epoch: {'; '.join(said)}."
        return canvas.plot()


def compare_cost(points: Mapping[str, tuple[float, float]], word: str) -> Plot:
    """Runs by what they cost and how good they are. points: GMACs a view and measure of each run."""
    with _canvas("cost-of-runs") as canvas:
        axes = canvas.figure.subplots()
        for number, (run, (gmacs, value)) in enumerate(points.items()):
            axes.plot(gmacs, value, "o", ms=7, color=COLOURS[number % 8], label=short(run, 24))
        axes.set(
            title=f"{word[0].upper()}{word[1:]} against cost",
            xlabel="GMACs of a view",
            xlim=(0, None),
            ylim=(0, 1.03),
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend()
        axes.grid(True)
        said = [f"{run}: {percent(value)} at {gmacs:.3g} GMACs" for run, (gmacs, value) in points.items()]
        canvas.alt = f"{word[0].upper()}{word[1:]} against multiply-adds of a view. {'; '.join(said)}."
        return canvas.plot()


def short(text: str, most: int) -> str:
    """The text, cut in the middle to that many characters."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
