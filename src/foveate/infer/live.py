"""Labels for frames that keep coming: from a camera, a stream, a page in a browser.

One call for all models, `Live.push`, which takes a frame and its time and gives an answer where one is due.
A model with a `step` keeps what it knows from frame to frame (the online TSM, Lin et al., ICCV 2019;
AdaFocus, whose classifier answers after every frame) and reads each frame once. Any
other model reads a clip of the last seconds for every label. Either way the memory does not grow.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.infer.engine import Engine, finite
from foveate.infer.output import ClassScore, PatchBox
from foveate.infer.predict import boxes_of, labels_of, ranked
from foveate.infer.read import WINDOW_S, Window
from foveate.models.base import ModelOutput
from foveate.video.base import DEFAULT_FPS
from foveate.video.pace import EARLY, Pace
from foveate.video.transform import test_transform

MOST_FPS = 240.0  # frames a second that can be asked for
MOST_WAITING = 32  # whole frames that are held for a clip
LONGEST_S = 600.0  # seconds that a label can look at, or that can pass between two

Frame = NDArray[np.uint8] | Tensor


@dataclass(frozen=True)
class LiveAnswer:
    """What a model says at one moment of a stream.

    time_s: of the frame that the answer is given after. start_s: of the first frame that it depends on; of a
    model that never forgets, the first of the stream. macs: multiply-adds. model_ms: milliseconds that the
    model ran. boxes: patches in the frames that it looked at; their `frame` counts the frames pushed.
    """

    time_s: float
    start_s: float
    predictions: tuple[ClassScore, ...]
    macs: int
    model_ms: float
    boxes: tuple[PatchBox, ...] = ()

    @property
    def label(self) -> str:
        """The best class."""
        return self.predictions[0].label

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; boxes only of a model that has them."""
        data = asdict(self)
        if not self.boxes:
            del data["boxes"]
        return data


class Taken(NamedTuple):
    """A frame that the model may read: its place among those pushed, its time, and its crop (S, S, 3)."""

    number: int
    time_s: float
    crop: Tensor


class Looked(NamedTuple):
    """The frames behind an answer, and what the model made of them."""

    window: Window
    output: ModelOutput


def open_live(
    engine: Engine,
    every: float | None = None,
    top: int = 5,
    window: float | None = None,
    smooth: float = 0.0,
) -> Live:
    """Labels over time by a model, one frame after the other.

    every: seconds between two labels; a model that steps reads a frame for each. If None, half of what a
    label looks at, or for a model that steps the time between the frames of its clips. top: classes in an
    answer. window: seconds that a clip of the model covers, for one that does not say; 5 if None, as in
    predictions of long videos. smooth: seconds over which scores are averaged, the latest most; 0: not at
    all. UsageError for numbers that cannot be.
    """
    for name, value, least in (
        ("every", every, 1 / MOST_FPS),
        ("window", window, 0.01),
        ("smooth", smooth, 0),
    ):
        if value is not None and not least <= value <= LONGEST_S:
            raise UsageError(name, f"is {value} s", f"give {least:.3g} to {LONGEST_S:g} seconds")
    if top < 1:
        raise UsageError("top", f"is {top}", "it must be at least 1")
    kind = StepwiseLive if engine.model.streams else WindowedLive
    return kind(engine, every, top, window, smooth)


def covered_s(spec: ClipSpec, window: float | None = None) -> float:
    """Seconds that a clip covers: by its rule for dense and even frames, `window` or 5 s for all others."""
    if spec.sampling in ("dense", "even"):
        return spec.frames * spec.stride / (spec.fps or DEFAULT_FPS)
    return WINDOW_S if window is None else window


class Live(ABC):
    """A stream that is being answered. `push` every frame, or at least those that `wants` says.

    Where time goes back, or more of it passes between two frames than a label looks at, the stream begins
    anew: what was seen before says nothing about what is seen now.
    """

    fps: float  # frames a second that the model wants; those between may be skipped
    backlog: int  # frames that may wait for `push` before the oldest is of no use
    every: float  # seconds between two labels

    def __init__(
        self, engine: Engine, every: float | None, top: int, window: float | None, smooth: float
    ) -> None:
        if engine.model.spec.modality == "flow":
            hint = "it answers of folders of flow: foveate predict"
            raise UsageError(engine.model.name, "reads optical flow, which no stream has", hint)
        self.engine = engine
        self.spec = engine.model.spec
        self.top = top
        self.smooth = smooth
        self.covered_s = covered_s(self.spec, window)
        self.every, self.fps = self._pace(every)
        self.backlog = self._most_waiting()
        self._labels = labels_of(engine.model)
        self._pushed = 0
        self._clock = Pace(1 / self.fps)
        self._last_s: float | None = None  # time of the last frame taken
        self._scores: tuple[float, Tensor] | None = None  # smoothed, and when

    @abstractmethod
    def warmup(self) -> None:
        """Run on black frames, so that initialisation does not slow the first real ones."""

    def reset(self) -> None:
        """Forget all frames: the next one begins a stream."""
        self._last_s = self._scores = None
        self._clock = Pace(1 / self.fps)
        self._forget()

    def wants(self, time_s: float) -> bool:
        """Whether a frame of this time, in seconds, would be read; others need not be pushed or converted."""
        return self._breaks(time_s) or self._clock.due(time_s)

    def push(self, frame: Frame, time_s: float, hurry: bool = False) -> LiveAnswer | None:
        """The answer after a frame, or None where no label is due.

        frame: uint8 RGB (H, W, 3), of any size; it may change. time_s: seconds on any clock that goes
        forward. hurry: newer frames wait already, so a label from a clip had better be given after these.
        UsageError for anything else, DataError for an answer that is not finite.
        """
        number, self._pushed = self._pushed, self._pushed + 1
        if self._breaks(time_s):
            self.reset()
        if not self._clock.due(time_s):
            return None
        self._clock.take(time_s)
        self._last_s = time_s
        pixels = _checked(frame)
        crop = test_transform(pixels, self.spec)[0, 0]
        begun = time.perf_counter()
        looked = self._look(Taken(number, time_s, crop), hurry)
        if looked is None:
            return None
        return self._answer(looked, (pixels.shape[2], pixels.shape[1]), 1000 * (time.perf_counter() - begun))

    def _answer(self, looked: Looked, sides: tuple[int, int], model_ms: float) -> LiveAnswer:
        window, output = looked.window, finite(looked.output, "stream")
        assert output.macs is not None  # an engine runs in eval mode
        scores = self.engine.model.probabilities(output.logits[0].float().cpu())
        return LiveAnswer(
            window.end_s,
            window.start_s,
            ranked(self._smoothed(scores, window.end_s), self._labels, self.top),
            int(output.macs.sum()),
            model_ms,
            tuple(boxes_of(window, output, self.spec, sides)),
        )

    def _smoothed(self, scores: Tensor, time_s: float) -> Tensor:
        if self.smooth > 0:
            if self._scores is not None:
                before_s, before = self._scores
                scores = scores.lerp(before, math.exp((before_s - time_s) / self.smooth))
            self._scores = time_s, scores
        return scores

    def _breaks(self, time_s: float) -> bool:
        if not math.isfinite(time_s):
            raise UsageError("time_s", f"is {time_s}", "give seconds")
        last_s, most = self._last_s, max(self.covered_s, 2 * self.every)
        return last_s is not None and not 0 <= time_s - last_s <= most

    @abstractmethod
    def _pace(self, every: float | None) -> tuple[float, float]:
        """Seconds between two labels, and frames a second that are read."""

    @abstractmethod
    def _most_waiting(self) -> int:
        """See `backlog`."""

    @abstractmethod
    def _look(self, taken: Taken, hurry: bool) -> Looked | None:
        """Take a frame, and run the model if a label is due."""

    @abstractmethod
    def _forget(self) -> None:
        """Begin anew."""


class StepwiseLive(Live):
    """By a model that steps. One whose state is for a number of frames begins anew after so many."""

    _state: Any = None
    _steps: int = 0
    _start_s: float = 0.0

    def _pace(self, every: float | None) -> tuple[float, float]:
        every = self.covered_s / self.spec.frames if every is None else every
        return every, 1 / every

    def _most_waiting(self) -> int:
        return 1

    def warmup(self) -> None:
        black = torch.zeros(1, self.spec.size, self.spec.size, 3, dtype=torch.uint8)
        _, state = self.engine.step(black)  # with nothing known, and
        self.engine.step(black, state)  # with something

    def _look(self, taken: Taken, hurry: bool) -> Looked:
        if self._steps == self.engine.model.stretch:
            self._forget()
        if self._state is None:
            self._start_s = taken.time_s
        output, self._state = self.engine.step(taken.crop.unsqueeze(0), self._state)
        self._steps += 1
        return Looked(_window([taken], self._start_s), output)

    def _forget(self) -> None:
        self._state, self._steps = None, 0


class WindowedLive(Live):
    """By a model of clips: a ring of the last frames, and a clip of them for every label."""

    def __init__(self, engine: Engine, *options: Any) -> None:
        super().__init__(engine, *options)
        self._ring: deque[Taken] = deque()
        self._labelling = Pace(self.every)

    def _pace(self, every: float | None) -> tuple[float, float]:
        fps = min(self.spec.frames / self.covered_s, MOST_FPS)
        if self.spec.sampling == "all":
            fps = min(fps, DEFAULT_FPS)
        return max(self.covered_s / 2 if every is None else every, 1 / fps), fps

    def _most_waiting(self) -> int:
        return max(1, min(self.spec.frames, MOST_WAITING))

    def warmup(self) -> None:
        self.engine.warmup()

    def _look(self, taken: Taken, hurry: bool) -> Looked | None:
        if not self._ring:
            self._labelling.take(taken.time_s)  # the first label is due after `every`
        self._ring.append(taken)
        while self._ring[0].time_s < taken.time_s - self.covered_s:
            self._ring.popleft()
        if hurry or not self._labelling.due(taken.time_s):
            return None
        self._labelling.take(taken.time_s)
        clip = [self._ring[place] for place in self._places()]
        output = self.engine.run(torch.stack([each.crop for each in clip]).unsqueeze(0))
        return Looked(_window(clip, clip[0].time_s), output)

    def _places(self) -> list[int]:
        """Places in the ring of the frames of a clip: even steps of time that end with the newest frame.

        For each step the newest frame until then, or the oldest one there is. A clip of a fixed pace keeps it
        where there is too little to see yet; another spreads over what there is, as in a short video.
        """
        times = np.array([each.time_s for each in self._ring])
        if self.spec.sampling == "all":
            return self.engine.model.frames_needed(len(times))
        paced = self.spec.sampling in ("dense", "even")
        span = self.covered_s if paced else min(self.covered_s, times[-1] - times[0] + 1 / self.fps)
        count = self.spec.frames
        wanted = times[-1] - span * np.arange(count - 1, -1, -1) / count
        slack = EARLY / self.fps
        places = np.maximum(np.searchsorted(times, wanted + slack, side="right") - 1, 0)
        return [int(places[place]) for place in self.engine.model.frames_needed(count)]

    def _forget(self) -> None:
        self._ring.clear()
        self._labelling = Pace(self.every)


def _window(clip: list[Taken], start_s: float) -> Window:
    numbers, times = tuple(each.number for each in clip), tuple(each.time_s for each in clip)
    return Window(numbers[0], numbers[-1] + 1, start_s, times[-1], (numbers,), times)


def _checked(frame: Frame) -> Tensor:
    """A frame as a clip of one, (1, H, W, 3)."""
    pixels = torch.from_numpy(np.ascontiguousarray(frame)) if isinstance(frame, np.ndarray) else frame.cpu()
    if pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[2] != 3 or not pixels.numel():
        cause = f"is {str(pixels.dtype).removeprefix('torch.')} {tuple(pixels.shape)}"
        raise UsageError("frame", cause, "give uint8 RGB (height, width, 3)")
    return pixels.unsqueeze(0)
