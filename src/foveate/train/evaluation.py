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
from numpy.typing import NDArray

from foveate.choices import Average
from foveate.clip import ClipSpec
from foveate.config import from_dict, to_dict
from foveate.data.lists import VideoEntry, VideoList
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
