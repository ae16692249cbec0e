"""The plot beside the table of an experiment, such as accuracy over cost."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.runner import Experiment, Row


def write_plot(experiment: Experiment, rows: Sequence[Row]) -> None:
    """Every variant as a point with the spread over the seeds; the horizontal axis is logarithmic."""
    assert experiment.plot
    x_column, y_column = (
        next(column for column in experiment.columns if column.key == key) for key in experiment.plot
    )
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        if not row.numbers.keys() >= {x_column.key, y_column.key}:
            continue
        x, x_spread = (number * x_column.scale for number in row.numbers[x_column.key])
        y, y_spread = (number * y_column.scale for number in row.numbers[y_column.key])
        axes.errorbar(x, y, xerr=x_spread, yerr=y_spread, fmt="o", capsize=3)
        axes.annotate(row.variant, (x, y), textcoords="offset points", xytext=(6, 5), fontsize=8)
    axes.set(xscale="log", xlabel=x_column.title, ylabel=y_column.title, title=experiment.name)
    axes.grid(alpha=0.3)
    figure.savefig(experiment.folder / "plot.png", dpi=130)
