"""From a video to a label: read its clips, run the model, name what it says. Follow `Predictor.predict`."""

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
    """A model ready to name what videos show.

    model: a model, a file of one, or an engine that holds one. top: classes to name. clips, crops: views of
    each window, whose logits are averaged. window: seconds for one label over time; 0 takes the video as one,
    None cuts videos longer than 20 s into windows of 5 s. device: where a model is put; an engine has its
    own. Numbers that cannot be raise UsageError here, before any video is opened.
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
            raise UsageError("top", f"is {top}", "at least one class is named")
        if isinstance(model, str | Path):
            model = load_model(model)
        self.engine = open_engine(model, device=device) if isinstance(model, VideoModel) else model
        self.top = top
        net = self.engine.model
        needed, chunks = net.frames_needed, net.takes_chunks
        self.reader = ClipReader(net.spec, clips, crops, window, needed, chunks, limits or Limits())

    def warmup(self) -> None:
        """Run a black view, so that the first video does not wait for what PyTorch prepares at first use."""
        self.engine.warmup(self.reader.clips * self.reader.crops)

    def predict(self, source: Any, fps: float | None = None) -> Prediction:
        """Name what one video shows.

        source: whatever `open_video` takes, or a line of a list. fps: frames a second of frames in memory. A
        video that cannot be used raises DataError; damage is in the status.
        """
        watch = Stopwatch("decode", "transform", "model")

        def run(frames: Any) -> ModelOutput:
            with watch("model"):
                return self.engine.run(frames)

        with self.reader.open(source, fps, watch) as video:
            answers = video.map(run)
            return describe(self.engine.model, video.facts(), answers, self.top, watch.milliseconds)

    def predict_all(self, sources: Iterable[Any]) -> Iterator[Prediction]:
        """One prediction for each video, in order; a bad file gives one of status refused, not an error."""
        for source in sources:
            try:
                yield self.predict(source)
            except (DataError, OSError) as error:
                yield Prediction(
                    name_of(source), self.engine.model.name, status="refused", cause=cause_of(error)
                )


def predict(source: Any, model: VideoModel | str | Path, top: int = 5) -> Prediction:
    """What one video shows: `predict("video.mp4", "model.safetensors").predictions[0].label`."""
    return Predictor(model, top).predict(source)
