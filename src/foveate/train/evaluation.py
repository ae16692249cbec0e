"""What an evaluation found for every video, as a file of the run folder from which a report is drawn.

    evaluation.npz     arrays, an entry a video, and `about`: JSON with the rest

Nothing in it is a pickle; the file says by itself what was evaluated, on which videos, with what answers.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.choices import Average
from foveate.clip import ClipSpec
from foveate.config import from_dict, to_dict
from foveate.data.dataset import BadFile
from foveate.data.lists import VideoEntry, VideoList
from foveate.data.lists.folder import video_name
from foveate.errors import DataError, FoveateError
from foveate.io import atomic_write
from foveate.models.base import VideoModel
from foveate.train.evaluate import Scored, measures

VERSION = 1
Array = NDArray[Any]


@dataclass(frozen=True)
class Evaluation:
    """A model evaluated on a list: N videos could be read, C classes."""

    model: str  # its name in the zoo
    spec: ClipSpec  # how it read the videos
    views: str  # clips x crops, such as 1x3
    classes: tuple[str, ...]
    multi_label: bool
    entries: tuple[VideoEntry, ...]  # of the N videos
    folder: str  # from which their paths start, where they are relative
    bad: tuple[tuple[str, str], ...]  # path and cause of those that could not be read
    measures: dict[str, float]  # as of `train.evaluate.measures`
    probabilities: Array  # (N, C) float32
    labels: Array  # (N,) int64, or (N, C) of 0 and 1
    macs: Array  # (N,) float64, of a view
    details: dict[str, Array]  # see `train.evaluate.Scored`
    bad_labels: tuple[tuple[int, ...], ...] = ()  # classes of each that could not be read

    def save(self, path: Path) -> None:
        """Write the file, wholly or not at all; OutputError where that cannot be."""
        about = {
            "version": VERSION,
            "model": self.model,
            "spec": to_dict(self.spec),
            "views": self.views,
            "classes": self.classes,
            "multi_label": self.multi_label,
            "entries": [_told(entry) for entry in self.entries],
            "folder": self.folder,
            "bad": self.bad,
            "bad_labels": self.bad_labels,
            "measures": self.measures,
        }
        arrays: dict[str, Any] = {
            "probabilities": self.probabilities,
            "labels": self.labels,
            "macs": self.macs,
        }
        arrays |= {f"details.{name}": array for name, array in self.details.items()}
        with atomic_write(path) as part, part.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)


def load_evaluation(path: Path) -> Evaluation:
    """Read an evaluation; DataError for a file that is none, is damaged, or of a later version."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about")))
        if about.pop("version") != VERSION:
            raise DataError(path, "was written by a later version", "update Foveate")
        about["spec"] = from_dict(ClipSpec, about["spec"], path)
        about["classes"] = tuple(about["classes"])
        about["bad"] = tuple((name, cause) for name, cause in about["bad"])
        about["bad_labels"] = tuple(map(tuple, about.get("bad_labels", ())))
        about["entries"] = tuple(from_dict(VideoEntry, entry, path) for entry in about["entries"])
        prefix = "details."
        details = {n.removeprefix(prefix): arrays.pop(n) for n in [*arrays] if n.startswith(prefix)}
        return Evaluation(**about, **arrays, details=details)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, FoveateError) as error:
        raise DataError(path, f"cannot be read as an evaluation: {error}", "evaluate anew") from error


def joined(first: Evaluation, others: Sequence[tuple[Path, Evaluation, float]]) -> Evaluation:
    """An evaluation with the probabilities of others added to its own; its measures anew.

    others: each the file that it is kept in, itself, and how much it counts, where the first counts 1. Videos
    are told by their entries in the list, whose paths may start elsewhere, but have the same names. The
    multiply-adds of a view are those of all. DataError for other classes, videos or labels.
    """
    total = first.probabilities.astype(np.float64)
    macs, whole = first.macs.copy(), 1.0
    for path, other, weight in others:
        if other.classes != first.classes or other.multi_label != first.multi_label:
            raise DataError(path, "has other classes than the list", "evaluate both on one list")
        rows = _same_videos(first, other, path)
        if not np.array_equal(other.labels[rows], first.labels):
            raise DataError(path, "has other labels than the list", "evaluate both on one list")
        total += weight * other.probabilities[rows]
        macs += other.macs[rows]
        whole += weight
    scores = (total / whole).astype(np.float32)
    unread = [BadFile(*file, labels) for file, labels in zip(first.bad, first.bad_labels, strict=True)]
    places = torch.arange(len(scores))
    scored = Scored(
        torch.from_numpy(scores),
        torch.from_numpy(first.labels),
        places,
        tuple(unread),
        torch.from_numpy(macs),
    )
    found = measures(scored, len(first.classes), first.multi_label)
    return dataclasses.replace(first, measures=found, probabilities=scores, macs=macs, details={})


def _same_videos(first: Evaluation, other: Evaluation, path: Path) -> list[int]:
    """Rows of the other's videos in the order of the first's. path: the other's, for errors."""
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, entry in enumerate(other.entries):
        rows.setdefault(_which(entry), []).append(row)
    order = []
    for entry in reversed(first.entries):  # a video that a list has twice: each its own row, the last first
        found = rows.get(_which(entry))
        if not found:
            raise DataError(path, f"has no scores of {entry.path}", "evaluate both on one list")
        order.append(found.pop())
    return order[::-1]


def _which(entry: VideoEntry) -> tuple[Any, ...]:
    """What tells a video of a list from the others, wherever its files or its flow lie."""
    return video_name(entry.path), entry.start, entry.end, entry.start_s, entry.end_s, entry.labels


def to_evaluation(
    scored: Scored, model: VideoModel, videos: VideoList, views: str, average: Average = "logits"
) -> Evaluation:
    """The scores of a list with its names and measures. views: clips x crops. average: what was joined."""
    scores = scored.scores if average != "logits" else model.probabilities(scored.scores)
    details = {name: _small(detail.numpy()) for name, detail in scored.details.items()}
    entries = tuple(videos.entries[index] for index in scored.indices.tolist())
    return Evaluation(
        model.name,
        model.spec,
        views,
        videos.class_names,
        videos.multi_label,
        entries,
        str(Path.cwd()),
        tuple((file.path, file.cause) for file in scored.bad),
        measures(scored, videos.num_classes, videos.multi_label),
        scores.float().numpy(),
        scored.labels.numpy(),
        scored.macs.numpy(),
        details,
        tuple(file.labels for file in scored.bad),
    )


def _told(entry: VideoEntry) -> Mapping[str, Any]:
    """What an entry says, without what it does not."""
    said = dataclasses.asdict(entry)
    return {name: value for name, value in said.items() if value is not None}


def _small(array: Array) -> Array:
    """Half of the bytes: numbers of frames and pixels, and probabilities that are only drawn."""
    kinds: Sequence[tuple[str, Any]] = (("f", np.float16), ("i", np.int32))
    return next((array.astype(kind) for letter, kind in kinds if array.dtype.kind == letter), array)
