"""Pooled features of many videos, to train something small on or to search in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.data.dataset import cause_of
from foveate.data.lists import VideoEntry
from foveate.errors import DataError, UsageError
from foveate.infer.engine import Engine
from foveate.infer.read import ClipReader, name_of
from foveate.io import atomic_write


@dataclass(frozen=True)
class VideoFeatures:
    """What a model's classifier reads of one video, averaged over its views: float32 (C,).

    features: None of a video that could not be used, whose cause is said. labels: those of a list.
    """

    video: str
    features: NDArray[np.float32] | None
    labels: tuple[int, ...] = ()
    cause: str = ""


def extract_features(engine: Engine, reader: ClipReader, sources: Iterable[Any]) -> Iterator[VideoFeatures]:
    """The features of each video, in order; those of a video in several windows are averaged over them.

    sources: whatever `open_video` takes, or lines of a list. A bad file has a cause in place of features.
    """
    for source in sources:
        name, labels = name_of(source), source.labels if isinstance(source, VideoEntry) else ()
        try:
            with reader.open(source) as video:
                rows = [output.features for _, output in video.map(engine.run) if output.features is not None]
        except (DataError, OSError) as error:
            yield VideoFeatures(name, None, labels, cause_of(error))
        else:
            mean = torch.stack([row.float().mean(0).cpu() for row in rows]).mean(0)
            yield VideoFeatures(name, mean.numpy(), labels)


def save_features(rows: Sequence[VideoFeatures], path: Path) -> None:
    """Write one row for each video, to `.npz` or `.parquet`.

    An .npz holds `features` (N, C) float32, NaN for a video that could not be used, `video`, `cause` (empty
    where there is none) and `label` (-1 where there is none, the first of several). Raises UsageError for
    another ending, or for Parquet without pyarrow.
    """
    check_features_path(path)
    width = next((len(row.features) for row in rows if row.features is not None), 0)
    missing = np.full(width, np.nan, np.float32)
    table = {
        "features": np.stack([missing if row.features is None else row.features for row in rows]),
        "video": np.array([row.video for row in rows]),
        "label": np.array([row.labels[0] if row.labels else -1 for row in rows]),
        "cause": np.array([row.cause for row in rows]),
    }
    with atomic_write(path) as part:
        if path.suffix == ".npz":
            with part.open("wb") as file:
                np.savez(file, **table)  # type: ignore[arg-type]
            return
        import pyarrow
        import pyarrow.parquet

        columns = {name: pyarrow.array(list(column)) for name, column in table.items()}
        pyarrow.parquet.write_table(pyarrow.table(columns), part)


def check_features_path(path: Path) -> None:
    """UsageError for a file that `save_features` could not write, before the work begins."""
    if path.suffix not in (".npz", ".parquet"):
        raise UsageError(path, "does not end in .npz or .parquet", "features are written as either")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UsageError(path, "Parquet needs pyarrow", "pip install pyarrow, or write .npz") from error
