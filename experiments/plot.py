"""The plot beside the table of an experiment, such as accuracy over cost."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.runner import Column, Experiment, Row

MARKERS = "os^vDPX*<>"


def write_plot(experiment: Experiment, rows: Sequence[Row]) -> None:
    """Every variant as a point with its spread over the seeds; a panel for each logarithmic axis."""
    assert experiment.plot
    *across, y_key = experiment.plot
    columns = {column.key: column for column in experiment.columns}
    figure = Figure(figsize=(4.6 * len(across) + 2.4, 5), layout="constrained")
    panels = figure.subplots(1, len(across), sharey=True, squeeze=False)[0]
    for axes, x_key in zip(panels, across, strict=True):
        for number, row in enumerate(row for row in rows if row.numbers.keys() >= {x_key, y_key}):
            (x, x_spread), (y, y_spread) = (_scaled(row, columns[key]) for key in (x_key, y_key))
            marker = MARKERS[number // 10 % len(MARKERS)]  # ten colours, then the next marker
            axes.errorbar(x, y, xerr=x_spread, yerr=y_spread, fmt=marker, capsize=3, label=row.variant)
        axes.set(xscale="log", xlabel=columns[x_key].title)
        for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis(FuncFormatter(tick))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(columns[y_key].title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.suptitle(experiment.name)
    figure.savefig(experiment.folder / "plot.png", dpi=130)


def tick(value: float, position: int) -> str:
    """Of a logarithmic axis, the numbers that begin with 1, 2, 3, 5 and 7."""
    return f"{value:g}" if f"{value:.0e}"[0] in "12357" else ""


def _scaled(row: Row, column: Column) -> tuple[float, float]:
    mean, deviation = row.numbers[column.key]
    return mean * column.scale, deviation * column.scale
