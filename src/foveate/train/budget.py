"""The curve of a model: what it costs and how often it is right by the setting of its dial.

A model that answers after every frame runs once, without exits: from its answers the thresholds for a whole
grid of budgets are solved and their cost and accuracy read off (models/adafocus/early_exit.py; Wang et al.,
"AdaFocus V2", CVPR 2022, section 3.4). One that also looks in several ways does so once in each, and keeps of
all points those that no cheaper one equals. Any other model runs once for each setting of its dial.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from foveate.errors import DataError, UsageError
from foveate.infer.engine import Engine
from foveate.measure.metrics import mean_average_precision, top_k
from foveate.models.adafocus.early_exit import solve_thresholds
from foveate.models.budget import MOST_POINTS, Curve, Point
from foveate.models.dials import Dial, Setting
from foveate.train.evaluate import Scored, ViewBatch, score

HALVINGS = 20  # of the range of the mean number of frames, which end within a millionth of it


class Measured(NamedTuple):
    """A setting, and what it came to: multiply-adds of a clip on average, and accuracy."""

    setting: Setting
    macs: float
    accuracy: float


def solve_curve(
    engine: Engine,
    loader: Callable[[], Iterable[ViewBatch]],
    points: int = 8,
    multi_label: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Curve:
    """The curve of an engine's model on labelled videos, which is not kept in the model yet.

    loader: gives the videos, with one view each, as often as it is called. points: how many of the curve, at
    most. report: is told how many of the runs are done. The model is left at the setting that it had.
    UsageError for a model without a dial or a number of points that cannot be; DataError where all settings
    cost the same on these videos.
    """
    model = engine.model
    dial, before = model.dial, model.setting
    if dial is None:
        hint = "only models that answer early or choose have a curve"
        raise UsageError(model.name or "model", "has nothing that could be set to cost less", hint)
    if not 2 <= points <= MOST_POINTS:
        raise UsageError("--points", f"is {points}", f"give 2 to {MOST_POINTS}")

    videos = 0

    def answers(setting: Setting) -> Scored:
        nonlocal videos
        model.turn(setting)
        scored = score(engine, loader())
        videos = len(scored.labels)
        return scored

    try:
        if dial.whole:
            measured = _solved(dial, points, answers, multi_label, report)
        else:
            measured = _measured(dial, dial.settings(points), points, answers, multi_label, report)
    finally:
        model.turn(before)
    found = _points(dial, measured)
    if len(dial.whole) > 1:
        found = frontier(found, points)
    return Curve(dial.name, "mAP" if multi_label else "top1", videos, tuple(found))


def _solved(
    dial: Dial,
    points: int,
    answers: Callable[[Setting], Scored],
    multi_label: bool,
    report: Callable[[int, int], None],
) -> list[Measured]:
    """Thresholds for a grid of budgets, from one run for each setting that reads to the end."""
    measured: list[Measured] = []
    for done, whole in enumerate(dial.whole):
        report(done, len(dial.whole))
        measured += solve_exits(answers(whole), whole, dial.group, points, multi_label)
    return measured


def _measured(
    dial: Dial,
    first: list[Setting],
    points: int,
    answers: Callable[[Setting], Scored],
    multi_label: bool,
    report: Callable[[int, int], None],
) -> list[Measured]:
    """The `first` settings, and then others in the widest gaps of cost, until so many cost differently."""
    measured: list[Measured] = []
    waiting: list[Setting | None] = [*first]
    while waiting and (setting := waiting.pop(0)) is not None:
        report(len(measured), points)
        scored = answers(setting)
        accuracy = accuracy_of(scored.scores, scored.labels, multi_label)
        measured.append(Measured(setting, float(scored.macs.mean()), accuracy))
        if not waiting and len({one.macs for one in measured}) < points and len(measured) < 2 * points:
            ranked = sorted(measured, key=lambda one: one.macs)
            low, high = max(pairwise(ranked), key=lambda pair: pair[1].macs - pair[0].macs)
            waiting.append(dial.middle(low.setting, high.setting))
    return measured


def solve_exits(
    scored: Scored, whole: Setting, group: int, points: int, multi_label: bool = False
) -> list[Measured]:
    """Thresholds for budgets from one group of frames to all, with multiply-adds and accuracy of each.

    scored: answers after every frame, read to the end, at a setting `whole`, whose last values the
    thresholds replace. group: frames between two places where reading may stop.
    """
    steps, macs = scored.steps, scored.step_macs
    assert steps is not None and macs is not None
    last = steps.shape[1]
    held, never = whole[:-last], whole[-last:]
    stops = group_ends(torch.arange(last), group, last)
    paid = macs[:, stops]  # (N, T), what an answer after each frame costs, as a group is read as a whole
    least, most = float(paid[:, 0].mean()), float(paid[:, -1].mean())
    confidence = steps.softmax(-1).amax(-1)
    found = []
    for place in range(points):
        wanted = least + (most - least) * place / (points - 1)
        thresholds = never
        if place < points - 1:
            thresholds = _thresholds_for(wanted, steps, confidence, paid)
        stop = stops_at(confidence, thresholds)
        rows = torch.arange(len(stop))
        accuracy = accuracy_of(steps[rows, stop], scored.labels, multi_label)
        found.append(Measured((*held, *thresholds), float(paid[rows, stop].mean()), accuracy))
    return found


def _thresholds_for(wanted: float, steps: Tensor, confidence: Tensor, paid: Tensor) -> Setting:
    """Thresholds with which videos cost `wanted` on average, or little less."""
    low, high = 1.0, float(steps.shape[1])  # mean number of frames
    best = solve_thresholds(steps, low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        thresholds = solve_thresholds(steps, middle)
        stop = stops_at(confidence, thresholds)
        if float(paid.gather(1, stop.unsqueeze(1)).mean()) <= wanted:
            low, best = middle, thresholds
        else:
            high = middle
    return best


def stops_at(confidence: Tensor, thresholds: Setting) -> Tensor:
    """The place of the first frame, (N,), after which each video is sure. confidence: (N, T)."""
    unsure = confidence < torch.tensor(thresholds)
    return unsure.long().cumprod(1).sum(1).clamp(max=confidence.shape[1] - 1)


def group_ends(places: Tensor, group: int, frames: int) -> Tensor:
    """The last frame of the group in which each place lies."""
    return ((places // group + 1) * group - 1).clamp(max=frames - 1)


def accuracy_of(scores: Tensor, labels: Tensor, multi_label: bool) -> float:
    """Top-1 accuracy, or mAP for several labels a video, in [0, 1]."""
    return mean_average_precision(scores, labels).value if multi_label else top_k(scores, labels, 1)


def frontier(points: Sequence[Point], most: int) -> list[Point]:
    """Of points of rising cost those that are more accurate than every cheaper one, `most` of them.

    Of more than so many the dearest that fits each of evenly spaced budgets stays. Where the cheapest is the
    most accurate, the last is kept beside it.
    """
    best = [points[0]]
    for point in points[1:]:
        if point.accuracy > best[-1].accuracy:
            best.append(point)
    if len(best) == 1:
        best.append(points[-1])
    shares = [point.share for point in best]
    budgets = (shares[0] + (shares[-1] - shares[0]) * place / (most - 1) for place in range(most - 1))
    kept = {bisect_right(shares, budget) - 1 for budget in budgets}
    return [best[place] for place in sorted(kept | {len(best) - 1})]


def _points(dial: Dial, measured: list[Measured]) -> list[Point]:
    """Points of rising cost; a setting that costs no more than a cheaper one is none."""
    full = next(one.macs for one in measured if one.setting == dial.full)
    points: list[Point] = []
    for setting, macs, accuracy in sorted(measured, key=lambda one: (one.macs, one.setting == dial.full)):
        if setting == dial.full and points and points[-1].gmacs == macs / 1e9:
            points.pop()  # as dear as the full one
        if macs <= full and (not points or points[-1].gmacs < macs / 1e9):
            points.append(Point(macs / full, macs / 1e9, accuracy, setting))
    if len(points) < 2:
        cause = "the model costs the same at every setting"
        raise DataError("videos", cause, "give more videos, or more different ones")
    return points
