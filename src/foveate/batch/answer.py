"""From videos to rows: child processes read, the engine runs several videos at once.

Which videos are run together depends on their places in the list alone, so that every way of sharing out the
work gives the same rows, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.batch.rows import Row, row_of
from foveate.data.dataset import cause_of
from foveate.data.lists import VideoEntry
from foveate.errors import DataError
from foveate.infer.ahead import ahead
from foveate.infer.engine import Engine, finite, memory_for
from foveate.infer.output import Prediction
from foveate.infer.predict import describe
from foveate.infer.read import Reader, ReadVideo, VideoFacts, Window
from foveate.models.base import ModelOutput


@dataclass(frozen=True)
class Answering:
    """How videos become rows.

    group: videos that stand together in the list and are run at once. top: classes in a row; 0 leaves out
    predictions. features: whether rows have what the classifier reads.
    """

    engine: Engine
    reader: Reader
    group: int = 1
    top: int = 5
    features: bool = False

    def rows(self, entries: Sequence[VideoEntry], places: Sequence[int]) -> Iterator[Row]:
        """The row of each entry at `places`, in their order."""

        def begin(place: int) -> ReadVideo:
            return self.reader.open(entries[place]).begin(self.engine.send)

        reading = (
            read(place, entries[place].path, video_of, self.engine)
            for place, video_of in ahead(begin, places, self.reader.ahead)
        )
        for _, group in groupby(reading, key=lambda video: video.place // self.group):
            yield from self.rows_of_group(list(group))

    def rows_of_group(self, videos: Sequence[ReadSoFar]) -> list[Row]:
        """The rows of videos that were read."""
        held = [video for video in videos if video.frames is not None]
        for _, same in groupby(held, key=lambda video: video.frames.shape):  # type: ignore[union-attr]
            _run_together([*same], self.engine)
        return [self._row(video) for video in videos]

    def _row(self, video: ReadSoFar) -> Row:
        model = self.engine.model
        try:
            if video.error is not None:
                raise video.error
            assert video.facts is not None
            answers = [(window, finite(output, video.name)) for window, output in video.answers]
            facts = replace(video.facts, name=video.name)
            prediction = describe(model, facts, answers, self.top, {})
        except (DataError, OSError) as error:
            refused = Prediction(video.name, model.name, status="refused", cause=cause_of(error))
            return row_of(video.place, refused)
        return row_of(video.place, prediction, _mean_features(answers) if self.features else None)


@dataclass
class ReadSoFar:
    """A video on its way to a row: an error, the frames of its only window, or the answers to its windows.

    None of them: it has more windows than one and is still to be read where the engine is.
    """

    place: int  # in the list
    name: str
    error: Exception | None = None
    facts: VideoFacts | None = None
    frames: Tensor | None = None
    answers: list[tuple[Window, ModelOutput]] = field(default_factory=list)


class _Later(Exception):
    """A video of several windows, where no engine is to run them."""


def read(place: int, name: str, video_of: Callable[[], ReadVideo], engine: Engine | None = None) -> ReadSoFar:
    """Read a video: one of a single window to be run with others, a longer one run as it comes.

    engine: without one, a longer video is left for later.
    """
    found = ReadSoFar(place, name)
    windows: list[Any] = []  # the clips of the first and of the last one, as far as they have come

    def run(frames: Any) -> ModelOutput:
        if engine is None:
            raise _Later
        return engine.run(frames)

    def hold_first(_: Window, frames: Any) -> Any:
        windows[1:] = [frames]
        return None if len(windows) == 1 and isinstance(frames, Tensor) else run(frames)

    try:
        with video_of() as video:
            pairs = video.map(hold_first)
            found.facts = video.facts()
    except _Later:
        return found
    except (DataError, OSError) as error:
        found.error = error
        return found
    if len(pairs) == 1 and isinstance(windows[-1], Tensor):  # however often it had to be read
        found.frames, found.answers = windows[-1], pairs
    else:
        found.answers = [(window, run(windows[0]) if output is None else output) for window, output in pairs]
    return found


def _run_together(videos: Sequence[ReadSoFar], engine: Engine) -> None:
    """Run the windows of videos, of one shape, at once, and give each video its answers."""
    frames = [video.frames for video in videos if video.frames is not None]
    with memory_for(sum(map(len, frames)), "lower --batch, --clips or --crops"):
        output, first = engine.run(torch.cat(frames)), 0
    for video, own in zip(videos, frames, strict=True):
        (window, _), last = video.answers[0], first + len(own)
        video.frames, video.answers = None, [(window, output.clips(slice(first, last)))]
        first = last


def _mean_features(answers: Sequence[tuple[Window, ModelOutput]]) -> NDArray[np.float32]:
    """What the classifier reads, averaged over views and windows, float32 (C,)."""
    means = [output.features.float().mean(0).cpu() for _, output in answers if output.features is not None]
    return torch.stack(means).mean(0).numpy()
