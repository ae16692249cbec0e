"""What an evaluation says, worked out for a page or a table: mistakes, classes, examples, predictions."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from foveate.data.dataset import VideoDataset
from foveate.io import atomic_write
from foveate.measure.metrics import mean_average_precision, mean_class_accuracy
from foveate.report.overlay import Mark, drawn
from foveate.report.plots import Plot, time_plot
from foveate.report.summary import percent
from foveate.train.evaluation import Evaluation

Array = NDArray[Any]
FRAMES, COLUMNS, CELL = 8, 4, 132  # pictures of an example, in a row, pixels of their side
QUALITY = 75  # of JPEG
COLUMNS_OF_CSV = (
    "video", "true_label", "predicted_label", "correct", "score",
    "true_rank", "true_score", "status", "cause",
)  # fmt: skip


@dataclass(frozen=True)
class ClassRow:
    """A class of the list. share: of its videos that are right, or its average precision; NaN without any."""

    name: str
    videos: int
    share: float
    taken_for: str  # the most frequent wrong answer, with its number


@dataclass(frozen=True)
class Example:
    """One video of the evaluation, to be looked at."""

    video: str
    truth: str
    answer: str
    score: float  # of the answer
    truth_score: float
    rank: int  # of the truth among the answers, from 1
    strip: str  # a data: address of frames as the model saw them; "" if they could not be read
    alt: str
    cause: str  # why there is no strip
    plot: Plot | None  # answers over time


def is_right(evaluation: Evaluation) -> Array:
    """(N,) bool: whether the best class of each video is its label, or one of them."""
    best = evaluation.probabilities.argmax(1)
    if evaluation.multi_label:
        return evaluation.labels[np.arange(len(best)), best] > 0
    return np.asarray(best == evaluation.labels)


def confusion(evaluation: Evaluation) -> Array | None:
    """(C, C) videos by label and answer; None with several labels a video."""
    if evaluation.multi_label:
        return None
    classes = len(evaluation.classes)
    pairs = evaluation.labels * classes + evaluation.probabilities.argmax(1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def frequent_mistakes(
    counts: Array, classes: Sequence[str], most: int = 10
) -> list[tuple[str, str, int, int]]:
    """Class, what it was taken for, how often, of how many videos; the most frequent first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(place) // len(classes), int(place) % len(classes)) for place in order]
    return [
        (classes[row], classes[column], int(wrong[row, column]), int(counts[row].sum()))
        for row, column in pairs
        if wrong[row, column]
    ]


def by_class(evaluation: Evaluation) -> list[ClassRow]:
    """Every class of the list, the worst first, those without a video last."""
    scores, labels = torch.from_numpy(evaluation.probabilities), torch.from_numpy(evaluation.labels)
    counts = confusion(evaluation)
    if counts is None:
        shares, videos = mean_average_precision(scores, labels).per_class, (labels > 0).sum(0)
    else:
        shares, videos = mean_class_accuracy(scores, labels).per_class, torch.from_numpy(counts.sum(1))
        np.fill_diagonal(counts, 0)
    rows = []
    for number, name in enumerate(evaluation.classes):
        wrong = 0 if counts is None else int(counts[number].max())
        taken = (
            f"{evaluation.classes[counts[number].argmax()]} ({wrong})" if counts is not None and wrong else ""
        )
        rows.append(ClassRow(name, int(videos[number]), float(shares[number]), taken))
    return sorted(rows, key=lambda row: (row.videos == 0, row.share if row.videos else 0, row.name))


def worst(evaluation: Evaluation, most: int = 9) -> list[int]:
    """Places of the mistakes in which the model was surest of a wrong class, against the truth."""
    best = evaluation.probabilities.max(1)
    margin = best - _truth_scores(evaluation)
    wrong = np.flatnonzero(~is_right(evaluation))
    return [int(place) for place in wrong[np.argsort(-margin[wrong], kind="stable")][:most]]


def shown_right(evaluation: Evaluation, most: int = 3) -> list[int]:
    """Places of videos that were recognised, of different classes as far as there are any."""
    right = np.flatnonzero(is_right(evaluation))
    _, first = np.unique(evaluation.probabilities.argmax(1)[right], return_index=True)
    return [int(place) for place in right[np.sort(first)][:most]]


def _truth_scores(evaluation: Evaluation) -> Array:
    """(N,) the probability of the label; of several the highest."""
    if evaluation.multi_label:
        return np.asarray(np.where(evaluation.labels > 0, evaluation.probabilities, 0).max(1))
    return np.asarray(np.take_along_axis(evaluation.probabilities, evaluation.labels[:, None], 1)[:, 0])


def truths(evaluation: Evaluation, place: int) -> list[int]:
    """The classes that are true of a video."""
    label = evaluation.labels[place]
    return [int(c) for c in np.flatnonzero(label > 0)] if evaluation.multi_label else [int(label)]


def rank_of(evaluation: Evaluation, place: int, label: int) -> int:
    """Place of a class among the answers to a video, from 1; of equal scores the lower class goes first."""
    scores = evaluation.probabilities[place]
    return 1 + int((scores > scores[label]).sum() + (scores[:label] == scores[label]).sum())


def example(evaluation: Evaluation, place: int, name: str) -> Example:
    """A video with its frames as the model saw them. name: of its plot in the page."""
    entry, classes = evaluation.entries[place], evaluation.classes
    scores, best = evaluation.probabilities[place], int(evaluation.probabilities[place].argmax())
    real = truths(evaluation, place)
    nearest = max(real, key=lambda label: scores[label], default=best)
    frames, cause = _frames(evaluation, place)
    strip = "" if frames is None else _strip(evaluation, place, frames)
    details = evaluation.details
    plot = None
    if "time_answer" in details:
        unit = (
            "frame"
            if evaluation.views == "1x1" or len(details["time_answer"][0]) == len(frames or ())
            else "place"
        )
        truth = None if best in real or "time_label" not in details else details["time_label"][place]
        plot = time_plot(name, details["time_answer"][place], truth, unit)
    return Example(
        video=entry.path,
        truth=", ".join(classes[label] for label in real) or "none",
        answer=classes[best],
        score=float(scores[best]),
        truth_score=float(scores[nearest]),
        rank=rank_of(evaluation, place, nearest),
        strip=strip,
        alt=f"Frames of {Path(entry.path).name} as the model saw them{_choice_words(evaluation)}",
        cause=cause,
        plot=plot,
    )


def _choice_words(evaluation: Evaluation) -> str:
    if "boxes" in evaluation.details:
        return "; a box marks the patch it looked at, dashed where it did not look"
    return (
        "; each frame at the size it was read, dark where it was skipped"
        if "sizes" in evaluation.details
        else ""
    )


def _frames(evaluation: Evaluation, place: int) -> tuple[Array | None, str]:
    """The first view of a video (T, S, S, 3), or None and why not."""
    clips, crops = map(int, evaluation.views.split("x"))
    entry, spec = evaluation.entries[place], evaluation.spec
    if "://" not in entry.path:
        entry = replace(entry, path=str(Path(evaluation.folder) / entry.path))
    classes, several = len(evaluation.classes), evaluation.multi_label
    sample = VideoDataset([entry], spec, classes, several, clips=clips, crops=crops)[0, 0]
    if sample.bad:
        return None, sample.bad.cause
    return sample.frames[0].numpy(), ""


def _strip(evaluation: Evaluation, place: int, frames: Array) -> str:
    """At most `FRAMES` frames in rows, with what the model chose in each, as a data: address of a JPEG."""
    details = evaluation.details
    boxes, looked, sizes = (details.get(name) for name in ("boxes", "looked", "sizes"))
    count = len(frames)
    places = np.unique(np.linspace(0, count - 1, min(FRAMES, count)).round().astype(int))
    side = frames.shape[1]
    rows = -(-len(places) // COLUMNS)
    sheet = Image.new("RGB", (min(COLUMNS, len(places)) * CELL, rows * CELL))
    for number, frame in enumerate(places.tolist()):
        box = None if boxes is None else tuple(int(edge) for edge in boxes[place, frame])
        mark = Mark(
            frame,
            "",
            box if box and max(box) <= side * 2 else None,  # type: ignore[arg-type]
            solid=looked is None or bool(looked[place, frame]),
            side=None if sizes is None else int(sizes[place, frame]),
        )
        picture = drawn(np.ascontiguousarray(frames[frame]), mark, str(frame + 1), CELL, CELL)
        sheet.paste(picture, (number % COLUMNS * CELL, number // COLUMNS * CELL))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def write_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write a line of comma-separated values a video, the unreadable ones last; OutputError if that fails.

    Several labels of a video are joined by " | ", and so are their ranks and scores.
    """
    with (
        atomic_write(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS_OF_CSV)
        for place, entry in enumerate(evaluation.entries):
            scores, real = evaluation.probabilities[place], truths(evaluation, place)
            best = int(scores.argmax())
            named = " | ".join(evaluation.classes[label] for label in real)
            ranks = " | ".join(str(rank_of(evaluation, place, label)) for label in real)
            own = " | ".join(f"{scores[label]:.6f}" for label in real)
            answer = [evaluation.classes[best], int(best in real), f"{scores[best]:.6f}"]
            out.writerow([entry.path, named, *answer, ranks, own, "ok", ""])
        labels = evaluation.bad_labels or ((),) * len(evaluation.bad)  # a file of an earlier version has none
        for (name, cause), true in zip(evaluation.bad, labels, strict=True):
            named = " | ".join(evaluation.classes[label] for label in true)
            out.writerow([name, named, *[""] * 5, "refused", cause])


def calibration(evaluation: Evaluation) -> tuple[Array, Array]:
    """Scores and whether they are right: of the answers, or with several labels of every class and video."""
    if evaluation.multi_label:
        return evaluation.probabilities.ravel(), (evaluation.labels > 0).ravel()
    return evaluation.probabilities.max(1), is_right(evaluation)


def share(value: float) -> str:
    """In percent; a dash for NaN."""
    return percent(value) if value == value else "–"  # noqa: PLR0124
