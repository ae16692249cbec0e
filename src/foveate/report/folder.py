"""A run folder as the report reads it: everything that training left, and nothing that must be there.

A run of an earlier version, or one that was broken off, gives what it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.config import read_yaml, to_dict
from foveate.errors import DataError, UsageError
from foveate.report.summary import Baseline, baseline_of, describe_evaluation, describe_training
from foveate.train.evaluation import Evaluation, load_evaluation
from foveate.train.job import TrainJob
from foveate.train.recipes import recipe_for

Record = dict[str, Any]


@dataclass(frozen=True)
class StageLog:
    """What one run of the loop wrote."""

    name: str  # of the stage; "" where the run has one alone
    steps: tuple[Record, ...]
    epochs: tuple[Record, ...]
    starts: tuple[Record, ...]
    changes: tuple[Record, ...] = ()  # of settings, as the run was extended
    before: tuple[Record, ...] = ()  # what came before the steps: keeping features

    @property
    def started(self) -> str:
        """When its first run began, as ISO 8601; "" if that is not known."""
        return str(self.starts[0].get("started", "")) if self.starts else ""

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps; 1 if that is not known yet."""
        last = self.epochs[-1] if self.epochs else {"step": 1, "epoch": 0}
        return max(last["step"] / (last["epoch"] + 1), 1.0)


@dataclass(frozen=True)
class RunRecord:
    """A run folder that was read."""

    folder: Path
    settings: Record  # config.yaml
    stages: tuple[StageLog, ...]
    bad_files: tuple[tuple[str, str], ...]  # path and cause, of training
    evaluation: Evaluation | None  # of the weights that were kept

    @property
    def monitor(self) -> str:
        """The measure that chose the best weights."""
        return str((self.settings.get("train") or {}).get("monitor", "top1"))

    @property
    def scored(self) -> StageLog:
        """The stage whose measures are those of the whole: the last with any."""
        scored = [log for log in self.stages if any(f"val_{self.monitor}" in r for r in log.epochs)]
        return (scored or self.stages)[-1]

    @property
    def baseline(self) -> Baseline:
        return baseline_of(self.evaluation, self.monitor) if self.evaluation else Baseline()

    @property
    def best(self) -> float | None:
        """The highest value of the monitored measure."""
        return max((r[f"val_{self.monitor}"] for r in self.scored.epochs if self.is_scored(r)), default=None)

    def is_scored(self, record: Record) -> bool:
        """Whether an epoch was evaluated."""
        return isinstance(record.get(f"val_{self.monitor}"), float)

    def summary(self) -> list[str]:
        """What happened, in sentences."""
        log = self.scored
        if self.evaluation and self.best is None:  # evaluated once, after all training
            return [describe_evaluation(self.evaluation)]
        planned = int(log.starts[-1].get("epochs", 0)) if log.starts else 0
        lines = describe_training(
            log.epochs,
            self.monitor,
            self.baseline,
            planned,
            validated=bool(self.settings.get("val") or self.settings.get("val_share")),
            option=self._epochs_option(log.name),
            from_scratch=not self.settings.get("weights"),
        )
        if log.name:
            before = ":" if self.best is not None else " went"
            lines[0] = lines[0].replace(before, f" in {log.name}{before}", 1)
        return lines

    def _epochs_option(self, stage: str) -> str:
        """The option of the command line that sets the epochs of a stage."""
        own = f"{stage}_epochs"
        return f"--{own.replace('_', '-')}" if own in (self.settings.get("plan") or {}) else "--epochs"

    def spent(self) -> dict[str, float]:
        """Seconds before the steps, of training, of judging, of all; the main process's peak memory in MB."""
        records = [record for log in self.stages for record in log.epochs]
        found = {
            "before_s": sum(record["seconds"] for log in self.stages for record in log.before),
            "train_s": sum(record.get("seconds") or 0.0 for record in records),
            "eval_s": sum(record.get("eval_seconds") or 0.0 for record in records),
        }
        found["total_s"] = sum(found.values())
        found["memory_mb"] = max((record.get("memory_mb") or 0.0 for record in records), default=0.0)
        return {name: value for name, value in found.items() if value}

    def changed_settings(self) -> dict[str, str]:
        """The settings that are not the defaults of the recipe, by their names on the command line."""
        usual = _flat(_defaults(self.settings))
        found = {name: value for name, value in _flat(self.settings).items() if usual.get(name, ...) != value}
        return {name: _text(value) for name, value in found.items()} | self._extensions()

    def setting(self, name: str) -> str:
        """The value of a setting; a dash for one that the recipe of this run does not have."""
        own = _flat(self.settings)
        return _text(own[name]) if name in own else "–"

    def _extensions(self) -> dict[str, str]:
        """What was changed as the run went on, by setting and epoch."""
        return {
            f"{log.name} {name}, after epoch {record['epoch']}".lstrip(): f"{_text(old)} became {_text(new)}"
            for log in self.stages
            for record in log.changes
            for name, (old, new) in record["changes"].items()
        }


def read_run(folder: Path) -> RunRecord:
    """Read a run folder; UsageError for a folder that is none."""
    if not (folder / "config.yaml").exists():
        inside = sorted(path.parent for path in folder.glob("*/config.yaml"))
        if not inside:
            raise UsageError(folder, "is no run folder", "name the --out of a training")
        settings = read_yaml(inside[0] / "config.yaml")
    else:
        settings = read_yaml(folder / "config.yaml")
    found_in = {path.parent for path in (*folder.glob("metrics.jsonl"), *folder.glob("*/metrics.jsonl"))}
    read = {path: _read_log(path, "" if path == folder else path.name) for path in sorted(found_in)}
    logs = sorted(read, key=lambda path: read[path].started)  # of one second: by name
    evaluations = [folder / "evaluation.npz", *(path / "evaluation.npz" for path in reversed(logs))]
    found = next((path for path in evaluations if path.exists()), None)
    bad = {record["path"]: record["cause"] for path in logs for record in _lines(path / "bad_files.jsonl")}
    return RunRecord(
        folder,
        settings,
        tuple(read[path] for path in logs) or (StageLog("", (), (), ()),),
        tuple(bad.items()),
        load_evaluation(found) if found else None,
    )


def _read_log(folder: Path, name: str) -> StageLog:
    records = _lines(folder / "metrics.jsonl")
    kinds = ("step", "epoch", "before")
    steps, epochs, before = (tuple(r for r in records if r.get("kind") == kind) for kind in kinds)
    starts, changes = (tuple(_lines(folder / file)) for file in ("starts.jsonl", "changes.jsonl"))
    return StageLog(name, steps, epochs, starts, changes, before)


def _lines(path: Path) -> list[Record]:
    """The objects of a file of JSON lines; a last line that is being written is left out."""
    found: list[Record] = []
    if not path.exists():
        return found
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise DataError(f"{path}:{number}", "not readable as JSON", "remove the line") from error
    return found


def _defaults(settings: Record) -> Record:
    try:
        recipe = recipe_for(str(settings.get("model", "")), str(settings.get("recipe") or ""))
    except UsageError:  # a model or a recipe of another version: everything is shown
        return {}
    usual = TrainJob(Path(), Path(), train=recipe.train, augment=recipe.augment, plan=recipe.plan)
    return to_dict(usual) | {"resume": False, "extend": False}


def _flat(settings: Record) -> Record:
    groups: Iterable[tuple[str, Any]] = settings.items()
    return {
        option: value
        for name, own in groups
        for option, value in (own.items() if isinstance(own, dict) else [(name, own)])
    }


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
