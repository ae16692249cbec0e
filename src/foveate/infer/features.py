"""Extract pooled features of many videos, for example to train a small classifier or for search."""

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
from foveate.infer.ahead import ahead
from foveate.infer.engine import Engine, finite
from foveate.infer.read import Reader, ReadVideo, keyframes_of, name_of
from foveate.io import atomic_write


@dataclass(frozen=True)
class VideoFeatures:
    """Features of one video: the input of the model's classifier, averaged over views and windows.

    features: float32 (C,), or None if the video could not be used; cause says why. labels: from a list.
    keyframes: indices of the frames read, where key frames stood for the others.
    """

    video: str
    features: NDArray[np.float32] | None
    labels: tuple[int, ...] = ()
    cause: str = ""
    keyframes: tuple[int, ...] = ()


def extract_features(engine: Engine, reader: Reader, sources: Iterable[Any]) -> Iterator[VideoFeatures]:
    """Yield the features of each video, in order; a bad file gives a cause in place of features.

    sources: anything that `open_video` takes, or entries of a list. Of a list, the next videos are read while
    the model runs on one.
    """

    def begin(source: Any) -> ReadVideo:
        return reader.open(source).begin(engine.send)

    for source, video_of in ahead(begin, sources, reader.ahead):
        name, labels = name_of(source), source.labels if isinstance(source, VideoEntry) else ()
        try:
            with video_of() as video:
                pairs = video.map(lambda _, frames: engine.run(frames))
                outputs = [finite(output, name) for _, output in pairs]
                rows = [output.features for output in outputs if output.features is not None]
        except (DataError, OSError) as error:
            yield VideoFeatures(name, None, labels, cause_of(error))
        else:
            mean = torch.stack([row.float().mean(0).cpu() for row in rows]).mean(0)
            read = keyframes_of([window for window, _ in pairs])
            yield VideoFeatures(name, mean.numpy(), labels, keyframes=read)


def save_features(rows: Sequence[VideoFeatures], path: Path) -> None:
    """Write one row for each video, to `.npz` or `.parquet`.

    An .npz has `features` (N, C) float32, NaN for videos that could not be used; `video`; `cause`, empty if
    none; `label`, the first of several, -1 if none; where key frames stood for others also `keyframes`, the
    indices of those read, with spaces between them. UsageError for another suffix or a missing pyarrow.
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
    if any(row.keyframes for row in rows):
        table["keyframes"] = np.array([" ".join(map(str, row.keyframes)) for row in rows])
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
    """UsageError for a path whose format `save_features` cannot write."""
    if path.suffix not in (".npz", ".parquet"):
        raise UsageError(path, "does not end in .npz or .parquet", "use one of these")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UsageError(path, "Parquet needs pyarrow", "pip install pyarrow, or write .npz") from error
