"""From a video to labels: read its clips, run the model, describe its output (`Predictor.predict`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from foveate.data.dataset import cause_of
from foveate.errors import DataError, UsageError
from foveate.infer.engine import Engine, open_engine
from foveate.infer.output import Prediction, describe
from foveate.infer.read import ClipReader, name_of
from foveate.measure.stopwatch import Stopwatch
from foveate.models.base import ModelOutput, VideoModel
from foveate.video import Limits
from foveate.weights.load import load_model


class Predictor:
    """Predicts the classes of videos with a model.

    model: a model, the path of a model file, or an engine. top: number of classes in a prediction. clips,
    crops: views of each window, whose logits are averaged. window: seconds per label over time; 0 gives one
    label for the video, None splits videos longer than 20 s into windows of 5 s. device: for the model; an
    engine has its own. limits: on resources for reading. Invalid numbers raise UsageError here.
    """

    def __init__(
        self,
        model: VideoModel | Engine | str | Path,
        top: int = 5,
        clips: int = 1,
        crops: int = 1,
        window: float | None = None,
        device: str | torch.device = "cpu",
        limits: Limits | None = None,
    ) -> None:
        if top < 1:
            raise UsageError("top", f"is {top}", "it must be at least 1")
        if isinstance(model, str | Path):
            model = load_model(model)
        self.engine = open_engine(model, device=device) if isinstance(model, VideoModel) else model
        self.top = top
        net = self.engine.model
        needed, chunks = net.frames_needed, net.takes_chunks
        self.reader = ClipReader(net.spec, clips, crops, window, needed, chunks, limits or Limits())

    def warmup(self) -> None:
        """Run on a black clip, so that the first video is not slowed by PyTorch's initialisation."""
        self.engine.warmup(self.reader.clips * self.reader.crops)

    def predict(self, source: Any, fps: float | None = None) -> Prediction:
        """Predict the classes of one video.

        source: anything that `open_video` takes, or an entry of a list. fps: frame rate of frames in memory.
        DataError for a video that cannot be used; a damaged one has status "partial".
        """
        watch = Stopwatch("decode", "transform", "model")

        def run(frames: Any) -> ModelOutput:
            with watch("model"):
                return self.engine.run(frames)

        with self.reader.open(source, fps, watch) as video:
            answers = video.map(run)
            return describe(self.engine.model, video.facts(), answers, self.top, watch.milliseconds)

    def predict_all(self, sources: Iterable[Any]) -> Iterator[Prediction]:
        """Yield a prediction for each video, in order; with status "refused" for a bad file, not an error."""
        for source in sources:
            try:
                yield self.predict(source)
            except (DataError, OSError) as error:
                yield Prediction(
                    name_of(source), self.engine.model.name, status="refused", cause=cause_of(error)
                )


def predict(source: Any, model: VideoModel | str | Path, top: int = 5) -> Prediction:
    """Predict the classes of one video: `predict("video.mp4", "model.safetensors").predictions[0].label`.

    source: anything that `open_video` takes. top: number of classes. Use `Predictor` for several videos.
    """
    return Predictor(model, top).predict(source)
