"""What a model said of each video of an evaluation, and how well it knows each class."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import torch

from foveate.data.lists import VideoEntry, VideoList
from foveate.io import atomic_write
from foveate.measure.metrics import mean_average_precision, mean_class_accuracy
from foveate.train.evaluate import Scored

COLUMNS = (
    *("video", "part", "true_label", "predicted_label", "correct"),
    *("score", "true_rank", "true_score", "status", "cause"),
)


class ClassRow(NamedTuple):
    """A class of a list. share: of its videos that are right, or its average precision; NaN without any."""

    name: str
    videos: int
    share: float
    taken_for: str  # the most frequent wrong answer, with its number


def write_predictions(path: Path, videos: VideoList, scored: Scored) -> None:
    """Write a line of comma-separated values for each video, in the order of the list, read or not.

    scored: with probabilities. Several labels of a video, their ranks and their scores are joined by " | ".
    OutputError if the file cannot be written.
    """
    places = {index: place for place, index in enumerate(scored.indices.tolist())}
    causes = {file.path: file.cause for file in scored.bad}
    with (
        atomic_write(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        for index, entry in enumerate(videos.entries):
            names = [videos.class_names[label] for label in entry.labels]
            head = [entry.path, _part(entry), " | ".join(names)]
            if index not in places:
                out.writerow([*head, *[""] * 5, "refused", causes.get(entry.path, "")])
                continue
            scores = scored.scores[places[index]]
            order = scores.argsort(descending=True, stable=True).tolist()
            best = order[0]
            ranks = " | ".join(str(order.index(label) + 1) for label in entry.labels)
            own = " | ".join(f"{scores[label]:.6f}" for label in entry.labels)
            answer = [videos.class_names[best], int(best in entry.labels), f"{scores[best]:.6f}"]
            out.writerow([*head, *answer, ranks, own, "ok", ""])


def by_class(videos: VideoList, scored: Scored) -> list[ClassRow]:
    """Every class of a list, in the order of the list."""
    scores, labels, classes = scored.scores, scored.labels, videos.num_classes
    if videos.multi_label:
        counts, shares = (labels > 0).sum(0), mean_average_precision(scores, labels).per_class
    else:
        counts = torch.bincount(labels, minlength=classes)
        shares = mean_class_accuracy(scores, labels).per_class
    rows = []
    for number, name in enumerate(videos.class_names):
        taken = ""
        if not videos.multi_label:
            answers = torch.bincount(scores[labels == number].argmax(1), minlength=classes)
            answers[number] = 0
            other = int(answers.argmax())
            taken = f"{videos.class_names[other]} ({int(answers[other])})" if answers[other] else ""
        rows.append(ClassRow(name, int(counts[number]), float(shares[number]), taken))
    return rows


def _part(entry: VideoEntry) -> str:
    """The stretch of a video that an entry means: "12-24" in frames, "1.5-2 s"; empty for a whole video."""
    if (entry.start, entry.end) != (None, None):
        return f"{entry.start or 0}-{'' if entry.end is None else entry.end}"
    if (entry.start_s, entry.end_s) != (None, None):
        return f"{entry.start_s or 0:g}-{'' if entry.end_s is None else f'{entry.end_s:g}'} s"
    return ""
