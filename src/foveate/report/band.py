"""The band of an overlay: what was said of a video, what it cost, and what the model chose, over time.

Two lines of words, then lanes over one axis of time: the labels, filled as high as their score, and what the
model read or chose. A pointer shows the present frame. The band lies below or above the picture and covers
none of it. Its colours are darker versions of Okabe and Ito's, which the colour-blind can tell apart (Color
Universal Design, 2008), and no two things differ by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from foveate.infer.output import ClassScore, Prediction, Segment

WHITE, PALE, DIM, GROUND = (255, 255, 255), (205, 205, 205), (62, 62, 62), (22, 22, 22)
GREEN, BLUE, GREY = (60, 230, 90), (80, 150, 255), (150, 150, 150)
FILLS = (  # of labels, sizes and clusters: white writing on them has a contrast of 4.5 at least
    (0, 94, 150),
    (172, 72, 0),
    (0, 112, 82),
    (146, 66, 114),
    (126, 88, 0),
    (84, 84, 168),
)
Colour = tuple[int, int, int]
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """A stretch of a lane in seconds. level: how high it is filled, in [0, 1]. text: on it, where it fits."""

    start_s: float
    end_s: float
    colour: Colour
    text: str = ""
    level: float = 1.0


@dataclass(frozen=True)
class Tick:
    """One frame in a lane. level: its height, in [0, 1]."""

    time_s: float
    colour: Colour
    level: float = 1.0


@dataclass(frozen=True)
class Lane:
    """A row of the band. height: in lines of writing."""

    name: str
    spans: tuple[Span, ...] = ()
    ticks: tuple[Tick, ...] = ()
    height: float = 1.2


def lanes_of(prediction: Prediction, times: Times) -> list[Lane]:
    """The labels of a prediction over time, and what its model chose or read. times: of each frame, in s."""
    return [_labels(prediction), *_choices(prediction, times)]


def _labels(prediction: Prediction) -> Lane:
    colours: dict[str, Colour] = {}
    spans = []
    for each in prediction.segments:
        colour = colours.setdefault(each.label, FILLS[len(colours) % len(FILLS)])
        spans.append(Span(each.start_s, each.end_s, colour, f"{each.label} {each.score:.0%}", each.score))
    return Lane("labels", tuple(spans), height=1.8)


def _choices(prediction: Prediction, times: Times) -> list[Lane]:
    lanes = []
    if prediction.boxes:
        ticks = [Tick(b.time_s, GREEN) if b.looked else Tick(b.time_s, GREY, 0.3) for b in prediction.boxes]
        lanes.append(Lane("patches", ticks=tuple(ticks)))
    if prediction.sizes:
        largest = max(1, *(each.size for each in prediction.sizes))
        sized = [
            Tick(s.time_s, GREEN, s.size / largest) if s.size else Tick(s.time_s, GREY, 0.15)
            for s in prediction.sizes
        ]
        lanes.append(Lane("sizes", ticks=tuple(sized), height=1.8))
    if prediction.clusters:
        spans = [
            Span(c.start_s, c.end_s, FILLS[c.cluster % len(FILLS)], str(c.cluster + 1))
            for c in prediction.clusters
        ]
        lanes.append(Lane("clusters", tuple(spans)))
    for name, frames in sorted(prediction.pathways.items(), key=lambda own: len(own[1])):
        colour = GREEN if len(lanes) == 0 else BLUE
        lanes.append(Lane(f"{name} frames", ticks=_ticks(frames, times, colour)))
    return lanes or [Lane("frames", ticks=_ticks(prediction.frames, times, GREEN))]


def _ticks(frames: Sequence[int], times: Times, colour: Colour) -> tuple[Tick, ...]:
    return tuple(Tick(float(times[frame]), colour) for frame in frames if frame < len(times))


class Band:
    """The band of one prediction, `width` pixels wide and `height` high.

    times: of each frame of the video, in seconds from the first.
    """

    def __init__(self, prediction: Prediction, times: Times, width: int) -> None:
        self.prediction = prediction
        self.duration_s = max(prediction.duration_s, float(times[-1]) if len(times) else 0.0, 1e-6)
        self.line = max(12, min(22, width // 42))  # pixels of the writing
        self._bold = ImageFont.load_default(size=round(1.25 * self.line))
        self._font = ImageFont.load_default(size=self.line)
        lanes = lanes_of(prediction, times)
        self._gap = max(3, self.line // 3)
        self._left = 2 * self._gap + round(max(self._font.getlength(lane.name) for lane in lanes)) + self._gap
        self._right = width - 2 * self._gap
        self._top = 2 * self._gap + round(2.9 * self.line)  # of the lanes
        below = sum(round(lane.height * self.line) + self._gap for lane in lanes) + self._gap
        self.height = self._top + below
        self.height += self.height % 2  # H.264 halves the colour planes
        self._base = self._drawn(lanes, width)

    def at(self, seconds: float, state: str = "") -> Image.Image:
        """The band while the frame of that time is shown. state: what was chosen in that frame, in words."""
        picture = self._base.copy()
        draw = ImageDraw.Draw(picture)
        now = next((s for s in self.prediction.segments if s.start_s <= seconds < s.end_s), None)
        last: Sequence[ClassScore | Segment] = self.prediction.segments[-1:] or self.prediction.predictions
        best = now or next(iter(last), None)
        right = f"{seconds:.1f} of {self.duration_s:.1f} s"
        self._headline(draw, best, _joined(state, right))
        x = self._x(seconds)
        draw.rectangle((x - 2, self._top - 1, x + 2, self.height - self._gap), fill=GROUND)
        draw.rectangle((x - 1, self._top - 1, x, self.height - self._gap), fill=WHITE)
        return picture

    def whole(self) -> Image.Image:
        """The band of a sheet, which shows no moment."""
        picture = self._base.copy()
        best = next(iter(self.prediction.predictions), None)
        self._headline(ImageDraw.Draw(picture), best, f"{self.duration_s:.1f} s")
        return picture

    def _headline(self, draw: ImageDraw.ImageDraw, best: ClassScore | Segment | None, right: str) -> None:
        """Label and score on the left, the label shortened to leave room for what stands on the right."""
        start, top = 2 * self._gap, self._gap
        taken = self._font.getlength(right)
        if best:
            score = f" {best.score:.0%}"
            room = self._right - start - taken - 2 * self.line - self._bold.getlength(score)
            draw.text((start, top), _shortened(best.label, self._bold, room) + score, WHITE, self._bold)
        draw.text((self._right - taken, top + round(0.2 * self.line)), right, PALE, self._font)

    def _drawn(self, lanes: Sequence[Lane], width: int) -> Image.Image:
        picture = Image.new("RGB", (width, self.height), GROUND)
        draw = ImageDraw.Draw(picture)
        start, result = 2 * self._gap, self.prediction
        total = max(1, round(result.duration_s * result.fps))
        read = f"{result.cost.frames_used} of {total} frames read"
        words = _joined(result.model, f"{result.cost.gmacs:.3g} GMACs", read)
        words = _shortened(words, self._font, self._right - start)
        draw.text((start, self._gap + round(1.6 * self.line)), words, PALE, self._font)
        top = self._top
        for lane in lanes:
            height = round(lane.height * self.line)
            draw.text((start, top + height / 2), lane.name, PALE, self._font, anchor="lm")
            self._lane(draw, lane, top, top + height)
            top += height + self._gap
        return picture

    def _lane(self, draw: ImageDraw.ImageDraw, lane: Lane, top: int, bottom: int) -> None:
        draw.rectangle((self._left, top, self._right, bottom), fill=DIM)
        for span in lane.spans:
            left, right = self._x(span.start_s), self._x(span.end_s)
            filled = bottom - round(min(max(span.level, 0.08), 1.0) * (bottom - top))
            draw.rectangle((left, filled, max(right, left), bottom), fill=span.colour)
            room = right - left - self._gap
            text = _shortened(span.text, self._font, room)
            if text == span.text or len(text) > 4:
                draw.text(((left + right) / 2, (top + bottom) / 2), text, WHITE, self._font, anchor="mm")
        for span in lane.spans[1:]:
            x = self._x(span.start_s)
            draw.rectangle((x, top, x, bottom), fill=WHITE)
        wide = self._tick_width(lane)
        for tick in lane.ticks:
            x = self._x(tick.time_s)
            filled = bottom - round(min(tick.level, 1.0) * (bottom - top))
            draw.rectangle((x, filled, x + wide - 1, bottom), fill=tick.colour)

    def _tick_width(self, lane: Lane) -> int:
        """Pixels of a tick: as wide as leaves gaps between them."""
        places = sorted({self._x(tick.time_s) for tick in lane.ticks})
        least = min((after - before for before, after in pairwise(places)), default=self.line)
        return max(1, min(least // 2, self.line // 3))

    def _x(self, seconds: float) -> int:
        share = min(max(seconds / self.duration_s, 0.0), 1.0)
        return self._left + round(share * (self._right - self._left))


def _joined(*words: str) -> str:
    return "  ·  ".join(word for word in words if word)


def _shortened(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, room: float) -> str:
    """The text, or as much of its beginning as there is room for, with a sign that something is missing."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""
