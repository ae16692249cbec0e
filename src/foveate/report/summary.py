"""What happened in a training, in words: the best epoch, beside what guessing gets, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveate.train.evaluation import Evaluation

Record = Mapping[str, Any]  # an epoch of metrics.jsonl
PRETRAINED = "weights to start from (--weights imagenet), "
WORDS = {"top1": "top-1", "top5": "top-5", "mean_class": "mean of classes", "mAP": "mAP"}


@dataclass(frozen=True)
class Baseline:
    """What a measure is without looking at the videos, in [0, 1]; None where it is unknown or means nothing.

    chance: by drawing a class. majority: by saying the most frequent class of the validation videos.
    """

    chance: float | None = None
    majority: float | None = None

    @property
    def best(self) -> float:
        return max(self.chance or 0.0, self.majority or 0.0)

    def __str__(self) -> str:
        said = [] if self.chance is None else [f"chance {percent(self.chance)}"]
        said += [] if self.majority is None else [f"always the most frequent class {percent(self.majority)}"]
        return ", ".join(said)


def percent(share: float) -> str:
    """56.7 % of 0.567; 100 % of 1."""
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def baseline_of(evaluation: Evaluation, measure: str = "top1") -> Baseline:
    """What guessing gets on the videos of an evaluation by a measure of `train.evaluate.measures`."""
    labels, classes = evaluation.labels, len(evaluation.classes)
    if evaluation.multi_label:  # the precision of any order is on average the share of positives
        shares = (labels > 0).mean(0)
        present = shares[shares > 0]
        return Baseline(float(present.mean())) if measure == "mAP" else Baseline(None, float(shares.max()))
    counts = np.sort(np.bincount(labels, minlength=classes))[::-1] / len(labels)
    k = {"top1": 1, "top5": min(5, classes)}.get(measure)
    return Baseline(1 / classes) if k is None else Baseline(k / classes, float(counts[:k].sum()))


def describe_evaluation(evaluation: Evaluation) -> str:
    """A sentence on how good a model is on a list."""
    measure = "mAP" if evaluation.multi_label else "top1"
    value, baseline = evaluation.measures[measure], baseline_of(evaluation, measure)
    word = "mAP" if evaluation.multi_label else "Top-1"
    return f"{word} {percent(value)} of {len(evaluation.entries)} videos ({baseline})."


def describe_training(
    epochs: Sequence[Record],
    monitor: str = "top1",
    baseline: Baseline | None = None,
    planned: int = 0,
    *,
    validated: bool = False,
    option: str = "--epochs",
    from_scratch: bool = True,
) -> list[str]:
    """Sentences on a finished or broken-off training, the best epoch first, then what it means.

    epochs: the records of kind epoch in metrics.jsonl, in order. monitor: the measure that chose the best
    weights. planned: epochs that the training should have had; 0: as many as there are. validated: whether
    there is a validation list, scored or not yet. option: of the command line, that sets the epochs.
    from_scratch: whether the training began without pretrained weights, so that these can be advised.
    """
    baseline = baseline or Baseline()
    if not epochs:
        return ["No epoch was finished, so there is nothing to say yet."]
    count, planned = epochs[-1]["epoch"] + 1, max(planned, epochs[-1]["epoch"] + 1)
    unfinished = count < planned
    status = [f"{count} of {planned} epochs are done; a training that was stopped goes on with --resume."]
    status = status if unfinished else []
    evaluated = [
        (record["epoch"] + 1, record[f"val_{monitor}"])
        for record in epochs
        if _is_number(record.get(f"val_{monitor}"))
    ]
    if not evaluated:
        return [_unscored(epochs, validated), *status]
    best_epoch, best = max(evaluated, key=lambda each: (each[1], -each[0]))
    beside = f" ({baseline})" if str(baseline) else ""
    so_far = "Best so far" if unfinished else "Best"
    first = f"{so_far}: epoch {best_epoch} of {planned}, validation {_word(monitor)} {percent(best)}{beside}."
    videos = next((r["val_n_ok"] for r in reversed(epochs) if r.get("val_n_ok")), 0)
    noise = max(math.sqrt(best * (1 - best) / videos), 1 / videos) if videos else 0.02
    learnt, pretrained = _latest(epochs, monitor), PRETRAINED if from_scratch else ""
    if _diverged(epochs):
        said = _diverged_words(epochs)
    elif best <= baseline.best + 2 * noise:
        said = _chance_words(learnt, baseline, noise, option, pretrained)
    elif learnt is not None and learnt >= 0.8 and learnt - evaluated[-1][1] >= max(0.15, 4 * noise):
        said = (
            f"It over-fitted: {_word(monitor)} {percent(learnt)} on the training videos, "
            f"{percent(evaluated[-1][1])} on the validation videos. Try more videos, {pretrained}"
            "freezing the backbone (--freeze backbone) or more --weight-decay."
        )
    else:
        said = "" if unfinished else _trend_words(evaluated, best_epoch, best, noise, monitor, option)
    uncertain = (
        f"With {videos:.0f} validation videos, differences below {percent(2 * noise)} may be luck."
        if videos and noise > 0.02
        else ""
    )
    return [line for line in (first, said, uncertain, *status) if line]


def _unscored(epochs: Sequence[Record], validated: bool) -> str:
    losses = _losses(epochs)
    fell = f" The training loss went from {losses[0]:.3g} to {losses[-1]:.3g}." if losses else ""
    if validated:
        return f"Nothing was scored yet, so whether it learnt is not known.{fell}"
    return f"Nothing was scored, so whether it learnt is not known (give --val, a list it never sees).{fell}"


def _diverged(epochs: Sequence[Record]) -> bool:
    if any("loss" in record and not _is_number(record["loss"]) for record in epochs):
        return True
    losses = _losses(epochs)
    if len(losses) < 2:
        return False
    first, last, low = losses[0], losses[-1], min(losses)
    return last > 1.1 * first or (last > 2 * low and last > 0.5 * first)


def _diverged_words(epochs: Sequence[Record]) -> str:
    losses = _losses(epochs)
    low = f"after {min(losses):.3g} it was {losses[-1]:.3g} at the end" if losses else "it is no number"
    return f"It diverged: the training loss grew, {low}. Try a third of --rate, or --clip-norm 5."


def _chance_words(
    learnt: float | None, baseline: Baseline, noise: float, option: str, pretrained: str
) -> str:
    if learnt is not None and learnt > baseline.best + max(0.3, 4 * noise):
        return (
            f"It learnt the training videos by heart ({percent(learnt)}) and nothing that holds for others. "
            f"Are the labels of the two lists the same classes? Try {pretrained}more videos."
        )
    return (
        "It never left chance. Are the labels right (foveate data check LIST)? Try another "
        f"--rate (three times as much, a third), {pretrained}or more epochs ({option})."
    )


def _trend_words(
    evaluated: Sequence[tuple[int, float]],
    best_epoch: int,
    best: float,
    noise: float,
    monitor: str,
    option: str,
) -> str:
    last_epoch, last = evaluated[-1]
    if len(evaluated) < 4:
        more = f"try more {option}" if last_epoch < 4 else "a smaller --eval-every would show it"
        return f"It was evaluated too few times to say whether more epochs would help; {more}."
    before = [value for epoch, value in evaluated if epoch <= last_epoch - max(1, last_epoch // 3)]
    if best_epoch > 0.8 * last_epoch and before and best > max(before) + noise / 2:
        return f"It was still improving. Try more epochs ({option} {2 * last_epoch} in a new folder)."
    if last < best - 2 * noise:
        return (
            f"It got worse after its best epoch, to {percent(last)} at the end. Its best weights are kept; "
            f"fewer epochs ({option} {max(best_epoch + 1, 2)}) or more --weight-decay would do."
        )
    return (
        f"It has levelled off: the last epochs brought no better {_word(monitor)}; more will not help alone."
    )


def _losses(epochs: Sequence[Record]) -> list[float]:
    """Training losses; none of a policy, whose loss says nothing by itself."""
    return [r["loss"] for r in epochs if "reward" not in r and _is_number(r.get("loss"))]


def _latest(epochs: Sequence[Record], name: str) -> float | None:
    return next((r[name] for r in reversed(epochs) if _is_number(r.get(name))), None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _word(measure: str) -> str:
    return WORDS.get(measure, measure)
