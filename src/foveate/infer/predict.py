"""From a video file to a label: indices, frames, clip, model, logits. Follow `predict` from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from foveate.errors import DataError, UsageError
from foveate.infer.result import Guess, Prediction, Segment, Spent
from foveate.measure.cost import count_macs
from foveate.models.base import VideoModel
from foveate.video.decode import Limits, Video, open_video
from foveate.video.sample import views
from foveate.video.transform import test_transform, to_clip
from foveate.weights.load import load_model

LONG = 20.0  # seconds; a longer video gets labels over time
WINDOW = 5.0  # seconds for each of them


class Predictor:
    """A model ready to name what videos show.

    top: classes to name. clips, crops: views of each window, whose logits are averaged. window: seconds for
    one label over time; 0 takes the video as one, None cuts videos longer than 20 s into windows of 5 s.
    """

    def __init__(
        self,
        model: VideoModel | str | Path,
        top: int = 5,
        clips: int = 1,
        crops: int = 1,
        window: float | None = None,
        device: str | torch.device = "cpu",
        limits: Limits | None = None,
    ) -> None:
        if window is not None and window < 0:
            raise UsageError(
                "window", f"{window} s is negative", "seconds for one label, or 0 for the whole video"
            )
        self.model = (load_model(model) if isinstance(model, str | Path) else model).to(device).eval()
        self.top = min(top, self.model.num_classes)
        self.clips, self.crops = clips, crops
        self.window = window
        self.device = torch.device(device)
        self.limits = limits or Limits()
        self._known_cost: dict[tuple[int, ...], int] = {}

    @torch.inference_mode()
    def predict(self, path: str | Path, template: str | None = None) -> Prediction:
        """Name what one video shows. A file that cannot be used raises DataError; damage is in the status."""
        clock = _Clock()
        logits, macs, used = [], 0, 0
        with clock("decode"):
            video = open_video(path, template, self.limits)
        with video:
            info = video.info
            for start, end in self._windows(info.frames, info.fps):
                clip_indices = views(end - start, self.model.spec, self.clips)
                wanted = [start + index for indices in clip_indices for index in indices]
                with clock("decode"):
                    frames = torch.from_numpy(video.read(wanted))  # (clips*T, H, W, C) uint8
                with clock("transform"):
                    batch = torch.cat(
                        [
                            test_transform(clip, self.model.spec, self.crops)
                            for clip in frames.split(len(clip_indices[0]))
                        ]
                    )  # (clips*crops, T, S, S, C)
                    clip = to_clip(batch, self.model.spec, self.device)  # (views, 3, T, S, S)
                macs += self._macs(clip)
                with clock("model"):
                    logits.append(self.model(clip).mean(0).float().cpu())
                used += len(set(wanted))
            return Prediction(
                video=str(path),
                model=self.model.name,
                duration_s=info.duration_s,
                fps=info.fps,
                status="partial" if video.damage else "ok",
                cause="; ".join(video.damage) or None,
                predictions=self._guesses(torch.stack(logits).mean(0)),
                segments=self._segments(torch.stack(logits), video),
                cost=Spent(macs / 1e9, video.frames_decoded, used),
                timing_ms=clock.milliseconds,
            )

    def predict_all(self, paths: Iterable[str | Path]) -> Iterator[Prediction]:
        """One prediction for each path, in order; a bad file gives one of status refused, not an error."""
        for path in paths:
            try:
                yield self.predict(path)
            except DataError as error:
                yield Prediction(str(path), self.model.name, status="refused", cause=error.cause)

    def _windows(self, frames: int, fps: float) -> list[tuple[int, int]]:
        """First and one-past-last frame of each stretch that gets a label of its own."""
        seconds = self.window
        if seconds is None:
            seconds = WINDOW if fps > 0 and frames / fps > LONG else 0
        length = round(seconds * fps)
        if length < 1 or length >= frames:
            return [(0, frames)]
        count = max(1, round(frames / length))
        edges = [i * frames // count for i in range(count + 1)]
        return list(pairwise(edges))

    def _macs(self, clip: Tensor) -> int:
        """Multiply-adds of the model on this clip; counted once a shape where they cannot differ."""
        if self.model.dynamic:
            return count_macs(self.model, clip).total
        shape = tuple(clip.shape)
        if shape not in self._known_cost:
            self._known_cost[shape] = count_macs(self.model, clip).total
        return self._known_cost[shape]

    def _label(self, index: int) -> str:
        return self.model.labels[index] if self.model.labels else f"class {index}"

    def _guesses(self, logits: Tensor) -> tuple[Guess, ...]:
        scores, indices = logits.softmax(0).topk(self.top)
        return tuple(
            Guess(rank, self._label(index), index, score)
            for rank, (index, score) in enumerate(
                zip(indices.tolist(), scores.tolist(), strict=True), start=1
            )
        )

    def _segments(self, logits: Tensor, video: Video) -> tuple[Segment, ...]:
        """Neighbouring windows of one label joined. logits: (windows, classes)."""
        info = video.info
        per_frame = info.duration_s / max(info.frames, 1)
        spans = self._windows(info.frames, info.fps)
        runs: list[tuple[int, int, int, list[float]]] = []
        for (start, end), row in zip(spans, logits.softmax(1), strict=True):
            index = int(row.argmax())
            if runs and runs[-1][2] == index:
                first, _, _, scores = runs.pop()
                runs.append((first, end, index, [*scores, float(row[index])]))
            else:
                runs.append((start, end, index, [float(row[index])]))
        return tuple(
            Segment(first * per_frame, last * per_frame, self._label(index), index, sum(scores) / len(scores))
            for first, last, index, scores in runs
        )


def predict(model: VideoModel | str | Path, path: str | Path, top: int = 5) -> Prediction:
    """What one video shows: `predict("model.safetensors", "video.mp4").predictions[0].label`."""
    return Predictor(model, top).predict(path)


class _Clock:
    """Milliseconds spent in each named part of the work."""

    def __init__(self) -> None:
        self.milliseconds = {"decode": 0.0, "transform": 0.0, "model": 0.0}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.milliseconds[part] += 1000 * (time.perf_counter() - start)
