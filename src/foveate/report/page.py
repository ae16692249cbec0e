"""The report: one HTML file that holds all it shows and asks nothing of the network.

Of a run folder, of several runs beside each other, or of one evaluation. What there is nothing to say of says
so; a run of an earlier version, or one under way, gives what it has.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from foveate import __version__
from foveate.errors import ModelFileError, UsageError
from foveate.io import atomic_write
from foveate.models.budget import Curve
from foveate.report import results
from foveate.report.folder import RunRecord, read_run
from foveate.report.plots import (
    Plot,
    budget_plot,
    compare_cost,
    compare_curves,
    confusion_plot,
    cost_plot,
    reliability_plot,
    steps_plot,
    training_plots,
)
from foveate.report.summary import WORDS, describe_evaluation, percent
from foveate.train.evaluation import Evaluation
from foveate.train.progress import duration
from foveate.weights.file import read_card

log = logging.getLogger(__name__)

SHARE_OF_TIME = 0.05  # of a training that its report may cost while it runs
UNSCORED = "No validation list was given or no epoch was evaluated yet, so there is nothing to show."
Context = dict[str, Any]


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder, `report.html` in it, and `predictions.csv` if videos were evaluated.

    UsageError for a folder that holds no run, OutputError where nothing can be written.
    """
    run, out = read_run(folder), out or folder / "report.html"
    title = f"Training of {run.settings.get('model', 'a model')}: {folder.resolve().name}"
    settings = sorted(run.changed_settings().items())
    bad = [(path, cause, "training") for path, cause in run.bad_files]
    context = {
        "title": title,
        "run": True,
        "summary": run.summary(),
        "facts": _facts(run),
        "curves": _curves(run),
        "waiting": _waiting(run),
        "stage_columns": ("stage", "epochs#", "time#", "first loss#", "last loss#", "validation#"),
        "stages": _stages(run) if len(run.stages) > 1 else [],
        "settings": settings,
        "commands": [start["command"] for each in run.stages[:1] for start in each.starts],
        "circumstances": _circumstances(run),
    } | _evaluated(run.evaluation, bad, _curve_of(folder / "best.safetensors"))
    _write("report.html.jinja", context, out)
    if run.evaluation:
        results.write_predictions(run.evaluation, out.with_name("predictions.csv"))
    return out


def write_evaluation_report(
    evaluation: Evaluation,
    out: Path,
    command: str = "",
    seconds: float = 0.0,
    curve: Curve | None = None,
) -> Path:
    """Write the report of one evaluation, and `predictions.csv` beside it; OutputError if that fails.

    curve: of the model, whose accuracy against cost is drawn then.
    """
    context = {
        "title": f"Evaluation of {evaluation.model}",
        "run": False,
        "summary": [describe_evaluation(evaluation)],
        "facts": _measured(evaluation) + ([("time", duration(seconds))] if seconds else []),
        "settings": [],
        "commands": [command] if command else [],
        "circumstances": [("views", evaluation.views), ("foveate", __version__)],
    } | _evaluated(evaluation, [], curve)
    _write("report.html.jinja", context, out)
    results.write_predictions(evaluation, out.with_name("predictions.csv"))
    return out


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write several runs beside each other on one page; UsageError for a folder that holds no run."""
    runs = [read_run(folder) for folder in folders]
    runs.sort(key=lambda run: -1.0 if run.best is None else run.best, reverse=True)
    names = _names([run.folder for run in runs])
    named = dict(zip(names, runs, strict=True))
    monitors = {run.monitor for run in runs}
    word = WORDS.get(runs[0].monitor, runs[0].monitor) if len(monitors) == 1 else "best measure"
    lists = {run.evaluation and tuple(e.path for e in run.evaluation.entries) for run in runs}
    context = {
        "title": f"{len(runs)} runs compared",
        "columns": ("run", "model", f"{word}#", "best epoch#", "GMACs a view#", "time#", "peak memory#"),
        "rows": [_row(name, run) for name, run in named.items()],
        "apart": "They were not evaluated on the same videos." if len(lists) > 1 else "",
        "summaries": [(name, run.summary()) for name, run in named.items()],
        "plots": _compared_plots(named, word),
        "names": names,
        "settings": _different_settings(named),
        "class_columns": ["class", *(f"{name}#" for name in names)],
        "classes": _compared_classes(runs),
        "bad": [(path, cause, name) for name, run in named.items() for path, cause in run.bad_files],
        "commands": [(n, r.stages[0].starts[-1]["command"]) for n, r in named.items() if r.stages[0].starts],
    }
    _write("comparison.html.jinja", context, out)
    return out


class LiveReport:
    """Renews the report of a run folder while its training runs, and at the end.

    Between two renewals passes so much time that the reports cost at most `SHARE_OF_TIME` of it. A report
    that fails is a warning: it never ends a training.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._next = 0.0

    def after_epoch(self) -> None:
        """Write the report, if the last one is long enough ago."""
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> Path | None:
        """Write the report; None if there is no run or it failed."""
        start = time.monotonic()
        try:
            return write_report(self.folder)
        except UsageError:  # the training was refused before it left anything
            return None
        except Exception as error:
            log.warning("%s: not written: %s", self.folder / "report.html", error)
            return None
        finally:
            self._next = time.monotonic() + (time.monotonic() - start) / SHARE_OF_TIME


def _write(template: str, context: Mapping[str, Any], out: Path) -> None:
    environment = Environment(
        loader=PackageLoader("foveate.report", ""),
        autoescape=select_autoescape(["html.jinja"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": results.share, "ordinal": _ordinal, "nobreak": _nobreak}
    written = datetime.now().strftime("%Y-%m-%d %H:%M")
    html = environment.get_template(template).render(**context, version=__version__, written=written)
    with atomic_write(out) as part:
        part.write_bytes(html.encode("utf-8", "backslashreplace"))


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    spent = run.spent()
    facts = _measured(run.evaluation) if run.evaluation else []
    if spent.get("train_s"):
        facts.append(("time", duration(spent["total_s"])))
    if "memory_mb" in spent:
        facts.append(("peak memory", f"{spent['memory_mb']:.0f} MB"))
    return facts


def _measured(evaluation: Evaluation) -> list[tuple[str, str]]:
    measures = evaluation.measures
    facts = [(word, percent(measures[name])) for name, word in WORDS.items() if name in measures]
    if len(evaluation.classes) <= 5:  # which every answer is among
        facts = [fact for fact in facts if fact[0] != WORDS["top5"]]
    facts.append(("videos read", f"{measures['n_ok']:.0f} of {measures['n_total']:.0f}"))
    facts.append(("GMACs a view", f"{measures['gmacs_per_view']:.3g}"))
    return facts


def _curves(run: RunRecord) -> list[tuple[str, list[Plot]]]:
    chance = run.baseline.chance
    return [(each.name, training_plots(each, chance, each.name or "run")) for each in run.stages]


def _stages(run: RunRecord) -> list[tuple[str, ...]]:
    """A row for each stage; its validation is the last of the measure that chose the weights."""
    rows: list[tuple[str, ...]] = []
    for log in run.stages:
        losses = [f"{r['loss']:.3g}" for r in log.epochs if isinstance(r.get("loss"), float)] or ["–"]
        scored = [percent(r[f"val_{run.monitor}"]) for r in log.epochs if run.is_scored(r)] or ["–"]
        seconds = sum((r.get("seconds") or 0.0) + (r.get("eval_seconds") or 0.0) for r in log.epochs)
        rows.append((log.name, str(len(log.epochs)), duration(seconds), losses[0], losses[-1], scored[-1]))
    return rows


def _waiting(run: RunRecord) -> str:
    shares = [r["data_wait_share"] for r in run.scored.epochs if r.get("data_wait_share") is not None]
    if not shares:
        return ""
    advice = (
        " More --workers or smaller copies (foveate data cache) would make it faster."
        if shares[-1] > 0.3
        else ""
    )
    return f"{percent(shares[-1])} of the time of the last epoch was spent waiting for data.{advice}"


def _circumstances(run: RunRecord) -> list[tuple[str, str]]:
    starts = [start for each in run.stages for start in each.starts]
    last = starts[-1] if starts else {}
    facts = [
        (name, str(value)) for name, value in last.items() if name not in ("command", "epochs", "started")
    ]
    if starts:
        facts.insert(0, ("started", starts[0]["started"]))
        if len(starts) > len(run.stages):
            facts.insert(1, ("last resumed", last["started"]))
    facts.append(("seed", str((run.settings.get("train") or {}).get("seed", 0))))
    spent = run.spent()
    words = {
        "before_s": "time spent on features that are kept",
        "train_s": "time spent training",
        "eval_s": "time spent on validation",
    }
    facts += [(word, duration(spent[name])) for name, word in words.items() if name in spent]
    if "memory_mb" in spent:
        facts.append(("peak memory of the main process", f"{spent['memory_mb']:.0f} MB"))
    return facts


def _curve_of(model: Path) -> Curve | None:
    """The curve that a model file holds, if it is there and has one."""
    try:
        return read_card(model).curve
    except ModelFileError:
        return None


def _evaluated(
    evaluation: Evaluation | None, bad: list[tuple[str, str, str]], curve: Curve | None
) -> Context:
    """The sections that an evaluation fills."""
    if evaluation is None:
        return {"evaluated": False, "unscored": UNSCORED, "bad": bad}
    counts = results.confusion(evaluation)
    reliability, error = reliability_plot(*results.calibration(evaluation))
    worst = [results.example(evaluation, p, f"worst{p}") for p in results.worst(evaluation)]
    plots, words = _cost(evaluation, curve)
    choices = [name for name in ("boxes", "sizes") if name in evaluation.details]
    shown = results.shown_right(evaluation) if choices else []
    chosen_words = "A box marks the patch that the local network read, dashed where it skipped it."
    if choices == ["sizes"]:
        chosen_words = "Each frame is as coarse as it was read, dark where it was skipped."
    return {
        "evaluated": True,
        "several": evaluation.multi_label,
        "matrix": None if counts is None else confusion_plot(counts, evaluation.classes),
        "mistakes": [] if counts is None else results.frequent_mistakes(counts, evaluation.classes),
        "classes": results.by_class(evaluation),
        "worst": worst,
        "has_time": "time_answer" in evaluation.details,
        "reliability": reliability,
        "reliability_words": _reliability_words(evaluation, error),
        "cost_plots": plots,
        "cost_words": words,
        "chosen": [results.example(evaluation, p, f"chosen{p}") for p in shown],
        "chosen_words": chosen_words,
        "bad": [*bad, *((path, cause, "validation") for path, cause in evaluation.bad)],
    }


def _reliability_words(evaluation: Evaluation, error: float) -> str:
    said, right = results.calibration(evaluation)
    gap = float(said.mean() - right.mean())
    kind = "The scores can be taken at their word"
    if abs(gap) > 0.03:
        kind = f"It is too {'sure' if gap > 0 else 'modest'}"
    return (
        f"{kind}: on average it says {percent(float(said.mean()))}, and {percent(float(right.mean()))} are "
        f"right. Expected calibration error: {percent(error)}."
    )


def _cost(evaluation: Evaluation, curve: Curve | None) -> tuple[list[Plot], str]:
    measure = "mAP" if evaluation.multi_label else "top1"
    steps = [value for name, value in evaluation.measures.items() if name.startswith(f"{measure}_after_")]
    gmacs, plots = evaluation.macs / 1e9, []
    mean = float(gmacs.mean())
    if len(steps) > 1:
        plots.append(steps_plot(steps, mean, WORDS[measure]))
    words = [f"A view costs {mean:.3g} GMACs."]
    if np.ptp(gmacs) > 1e-6 * max(mean, 1e-9):
        plots.append(cost_plot(gmacs, results.is_right(evaluation)))
        words = [f"A view costs {mean:.3g} GMACs on average, from {gmacs.min():.3g} to {gmacs.max():.3g}."]
    read = evaluation.details.get("frames_read")
    if read is not None:
        words.append(f"On average {read.sum(1).mean():.3g} of {read.shape[1]} frames are read.")
    if evaluation.views != "1x1":
        words.append(f"A video has {evaluation.views} views (clips x crops).")
    if curve is not None and curve.measure == measure:
        plots.append(budget_plot(curve, mean, evaluation.measures[measure], WORDS[measure]))
    if len(plots) == 0:
        words.append("This model does the same work for every video.")
    return plots, " ".join(words)


def _row(name: str, run: RunRecord) -> tuple[str, ...]:
    spent, key = run.spent(), f"val_{run.monitor}"
    best = next(
        (r["epoch"] + 1 for r in run.scored.epochs if run.best is not None and r.get(key) == run.best), None
    )
    gmacs = None if run.evaluation is None else run.evaluation.measures["gmacs_per_view"]
    return (
        name,
        str(run.settings.get("model", "")),
        "–" if run.best is None else percent(run.best),
        "–" if best is None else str(best),
        "–" if gmacs is None else f"{gmacs:.3g}",
        duration(spent.get("total_s", 0.0)),
        f"{spent['memory_mb']:.0f} MB" if "memory_mb" in spent else "–",
    )


def _compared_plots(runs: Mapping[str, RunRecord], word: str) -> list[Plot]:
    logs = {name: run.scored for name, run in runs.items()}
    keys = [
        (f"val_{m}", f"Validation {WORDS.get(m, m)}") for m in dict.fromkeys(r.monitor for r in runs.values())
    ]
    plots = [compare_curves(logs, key, title, True, f"compare-{key}") for key, title in keys]
    plots.append(compare_curves(logs, "loss", "Training loss", False, "compare-loss"))
    plots.append(compare_curves(logs, "top1", "Training top-1", True, "compare-top1"))
    points = {
        name: (run.evaluation.measures["gmacs_per_view"], run.best)
        for name, run in runs.items()
        if run.evaluation and run.best is not None
    }
    return [plot for plot in plots if plot] + ([compare_cost(points, word)] if points else [])


def _different_settings(runs: Mapping[str, RunRecord]) -> list[tuple[str, ...]]:
    changed = {run.folder: run.changed_settings() for run in runs.values()}
    names = sorted({name for own in changed.values() for name in own} - {"out"})
    rows = [
        (name, *(changed[run.folder].get(name, run.setting(name)) for run in runs.values())) for name in names
    ]
    return [row for row in rows if len(set(row[1:])) > 1]


def _compared_classes(runs: Sequence[RunRecord]) -> list[tuple[str, ...]]:
    evaluations = [run.evaluation for run in runs if run.evaluation]
    if len(evaluations) < len(runs) or len({each.classes for each in evaluations}) > 1:
        return []
    tables = [{row.name: row.share for row in results.by_class(each)} for each in evaluations]
    return [(name, *(results.share(own[name]) for own in tables)) for name in evaluations[0].classes]


def _names(folders: Sequence[Path]) -> list[str]:
    """The names of the folders, or their paths where two have one name."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _nobreak(text: str) -> str:
    """A number and its percent sign stay on one line."""
    return text.replace(" %", "\u00a0%")
