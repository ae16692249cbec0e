"""Signals: a small person in clutter shows two cards for a moment, one after the other.

Made so that systems part. What stands on a card is a few pixels of the full frame and gone in a small one;
the person is anywhere, so most of the frame says nothing; the cards are up in a sixth of the video; and half
of the classes differ in nothing but the order of their cards. Where the arm points is a class as well, and
can be seen in any small frame of the moment: so a glance can learn where and when something is shown, but
not what.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.clips import Arrays, Batches, Shuffled, drawn, moved
from experiments.focus_data import FoundSplit
from foveate.data.synthetic import FiguresConfig
from foveate.data.synthetic.draw import capsule, rectangle
from foveate.data.synthetic.scene import make_scene
from foveate.video.transform import resize

SIDE, FRAMES = 224, 24
COUNTS = {"train": 1600, "val": 320, "test": 640}
SHOWN = 2  # frames for which each of the two cards is up
ARMS = {"high": -1.25, "wide": -0.15}  # radians from the horizontal, up is negative
CARDS = (("rows", "columns"), ("columns", "rows"), ("checks", "checks"), ("rings", "rings"))
CLASSES = tuple(f"{arm}: {first}, {second}" for arm, (first, second) in product(ARMS, CARDS))
CONFIG = FiguresConfig(pan=0.1, clutter=(5, 8), clutter_light=(0, 140), texture_light=(20, 110))
STATURE = (0.15, 0.18)  # sides
CARD = 0.32  # side of what is printed on a card, in statures
LINES = 4.0  # periods of a pattern, in cards
FINE = 3  # parts of a pixel's side that a card is drawn by
GRAIN = 6.0


def _waves(x: np.ndarray) -> np.ndarray:
    """Positive and negative in turn, LINES times between -1 and 1."""
    return np.sin(np.pi * LINES * (x + 1))


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "rows": lambda u, v: _waves(v) + 0 * u,
    "columns": lambda u, v: _waves(u) + 0 * v,
    "checks": lambda u, v: _waves(u) * _waves(v),
    "rings": lambda u, v: _waves(np.maximum(abs(u), abs(v))),
}
WORK = Path(__file__).parents[1] / "work" / "signals"


def load_split(name: str) -> FoundSplit:
    """The clips of a split, drawn at the first call: (N, 24, 224, 224, 3)."""
    arrays = drawn(WORK / name, partial(draw, list(COUNTS).index(name)), COUNTS[name])
    return FoundSplit(arrays["frames"], torch.arange(COUNTS[name]) % len(CLASSES), arrays["boxes"])


def moments(name: str) -> Tensor:
    """First frame of what is shown, of each clip of a split, (N,)."""
    return drawn(WORK / name, partial(draw, list(COUNTS).index(name)), COUNTS[name])["moment"]


def cards(name: str) -> Tensor:
    """Where the middle of a card is, or would be, in every frame of each clip, (N, 24, 2): right, down."""
    found = np.empty((COUNTS[name], FRAMES, 2), np.float32)
    for index, places in enumerate(found):
        _, rng, _ = generators(list(COUNTS).index(name), index)
        person, arm = Person(rng), _meaning(index)[0]
        for t in range(FRAMES):
            neck = person.neck(t)
            places[t] = neck + person.arm(t, ARMS[arm], person.hand)
    return torch.from_numpy(found)


def generators(split: int, index: int) -> list[np.random.Generator]:
    """Of a clip's scene, of its person, and of its grain."""
    return np.random.default_rng((split, index)).spawn(3)


def _meaning(index: int) -> tuple[str, tuple[str, str]]:
    """Arm and cards of a clip."""
    label = index % len(CLASSES)
    return list(ARMS)[label // len(CARDS)], CARDS[label % len(CARDS)]


def draw(split: int, index: int) -> Arrays:
    """Frames, the person's box in each, and the first frame in which a card is up."""
    scene_rng, rng, grain = generators(split, index)
    arm, cards = _meaning(index)
    scene = make_scene(CONFIG, SIDE, SIDE, (np.arange(FRAMES) + 0.5) / FRAMES, scene_rng)
    person = Person(rng)
    moment = int(rng.integers(0, FRAMES - 2 * SHOWN + 1))
    noise = grain.standard_normal((SIDE + 64, SIDE + 64, 1), np.float32) * np.float32(GRAIN)
    frames, boxes = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8), np.empty((FRAMES, 4), np.int64)
    picture = np.empty((3, SIDE, SIDE), np.float32)
    for t in range(FRAMES):
        scene.draw(picture, t, SIDE)
        turn = (t - moment) // SHOWN
        up = turn in (0, 1)
        person.draw(picture, t, ARMS[arm] if up else None, cards[turn] if up else None)
        y, x = grain.integers(0, 65, 2)
        frames[t] = np.clip(picture.transpose(1, 2, 0) + noise[y : y + SIDE, x : x + SIDE], 0, 255)
        boxes[t] = person.box(t)
    return {"frames": frames, "boxes": boxes, "moment": np.array(moment)}


class Person:
    """A light stick figure that sways, drifts, and can hold up a card with either hand."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.height = rng.uniform(*STATURE) * SIDE
        self.hand = rng.choice((-1, 1))
        self.colour = rng.uniform(165, 225, 3).astype(np.float32)
        self.paper = rng.uniform(225, 255, 3).astype(np.float32)
        self.ink = self.paper - np.float32(rng.uniform(100, 140))
        self.tilt = rng.uniform(-0.12, 0.12)
        self.phase, self.pace = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8)
        room = 1.05 * self.height
        start, drift = rng.uniform(room, SIDE - room, 2), rng.uniform(-8, 8, 2)
        way = start + np.outer(np.linspace(-0.5, 0.5, FRAMES), drift)
        self.way = np.clip(way, room, SIDE - room)  # the hips

    def box(self, t: int) -> np.ndarray:
        """Left, top, right, bottom of all that the person can reach with a card."""
        reach = 0.95 * self.height
        (x, y), low = self.way[t], 0.5 * self.height
        return np.clip(np.round([x - reach, y - reach, x + reach, y + low]), 0, SIDE).astype(np.int64)

    def sway(self, t: int) -> float:
        return 0.2 * math.sin(self.phase + self.pace * t)

    def neck(self, t: int) -> np.ndarray:
        return self.way[t] + self.height * np.array([0.05 * self.sway(t), -0.3])

    def arm(self, t: int, lifted: float | None, side: int) -> np.ndarray:
        """From the neck to the hand of a side: hanging, or lifted by an angle."""
        angle = 1.3 + 0.3 * self.sway(t) if lifted is None else lifted + 0.1 * self.sway(t)
        return 0.4 * self.height * np.array([side * math.cos(angle), math.sin(angle)])

    def draw(self, picture: np.ndarray, t: int, lifted: float | None, card: str | None) -> None:
        """Paint frame t: the arm hangs, or is lifted by an angle and holds a card."""
        h, sway, hips, neck = self.height, self.sway(t), self.way[t], self.neck(t)
        thick = 0.045 * h
        for side in (-1, 1):
            foot = hips + np.array([side * (0.1 + 0.2 * sway * side) * h, 0.48 * h])
            capsule(picture, hips, foot, thick, 0.7 * thick, self.colour)
        capsule(picture, hips, neck, 1.4 * thick, 1.6 * thick, self.colour)
        head = neck - np.array([0, 0.13 * h])
        capsule(picture, head, head, 0.085 * h, 0.085 * h, self.colour)
        for side in (-1, 1):
            tip = neck + self.arm(t, lifted if side == self.hand else None, side)
            capsule(picture, neck, tip, 0.8 * thick, 0.7 * thick, self.colour)
            if card is not None and side == self.hand:
                self._show(picture, tip, card)

    def _show(self, picture: np.ndarray, centre: np.ndarray, card: str) -> None:
        """Paint a card. All have as much ink, so that none can be told where its lines run together."""
        half = CARD * self.height / 2
        rectangle(picture, centre, (1.2 * half, 1.2 * half), self.tilt, self.paper)
        reach = math.ceil(1.5 * half) + 1
        top, left = np.rint(centre[::-1]).astype(int) - reach
        fine = (np.arange(2 * reach * FINE) + 0.5) / FINE - 0.5
        y, x = (fine + top - centre[1])[:, None], (fine + left - centre[0])[None]
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        u, v = (cos * x + sin * y) / half, (cos * y - sin * x) / half
        inked = (PATTERNS[card](u, v) > 0) & (np.maximum(abs(u), abs(v)) < 1)
        share = inked.reshape(2 * reach, FINE, 2 * reach, FINE).mean((1, 3), dtype=np.float32)
        area = picture[:, top : top + 2 * reach, left : left + 2 * reach]
        area += share * (self.ink[:, None, None] - area)


@dataclass(frozen=True)
class Signals(Batches):
    """Some frames of every clip, mirrored and shifted. Cards do not tell left from right.

    frames: how many of the 24, one from each of as many equal parts of the video, at random. slide: frames
    by which they come earlier or later at most, for a model that takes always the same of them.
    """

    frames: int
    slide: int = 0

    def draws(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        count = len(self.split.labels)
        changed, within = super().draws(rng), rng.random((count, self.frames))
        return *changed, within, rng.integers(-self.slide, self.slide + 1, count)

    def clip(self, index: int, *drawn: Any) -> Tensor:
        flip, shift, within, later = drawn
        chosen = np.clip(places(self.frames, within) + later, 0, FRAMES - 1)
        return moved(self.split.frames[index][chosen], flip, shift)


def places(frames: int, within: np.ndarray | float = 0.5) -> np.ndarray:
    """One of the 24 frames from each of so many equal parts, (frames,); within: where in its part."""
    return ((np.arange(frames) + within) * (FRAMES / frames)).astype(int)


def sized(name: str, size: int) -> FoundSplit:
    """A split at a smaller size, shrunk at the first call."""
    whole = load_split(name)
    if size == SIDE:
        return whole
    frames = drawn(WORK / f"{name}_{size}", partial(_shrunk, name, size), COUNTS[name])["frames"]
    return replace(whole, frames=frames)


def _shrunk(name: str, size: int, index: int) -> Arrays:
    return {"frames": resize(load_split(name).frames[index], size, size).numpy()}


# ---- single frames, which the networks see first


STILLS = 6000
SEEN = ("nothing", *(f"{arm}: {card}" for arm, card in product(ARMS, PATTERNS)))


def stills() -> FoundSplit:
    """Single frames of other persons, labelled by what is shown in them; every ninth shows nothing."""
    arrays = drawn(WORK / "stills", draw_still, STILLS)
    return FoundSplit(arrays["frames"], torch.arange(STILLS) % len(SEEN), arrays["boxes"])


def draw_still(index: int) -> Arrays:
    scene_rng, rng, grain = np.random.default_rng((len(COUNTS), index)).spawn(3)
    picture = np.empty((3, SIDE, SIDE), np.float32)
    make_scene(CONFIG, SIDE, SIDE, np.array([rng.random()]), scene_rng).draw(picture, 0, SIDE)
    person, t, seen = Person(rng), int(rng.integers(FRAMES)), SEEN[index % len(SEEN)]
    arm, _, card = seen.partition(": ")
    person.draw(picture, t, ARMS.get(arm), card or None)
    noise = grain.standard_normal((SIDE, SIDE, 1), np.float32) * np.float32(GRAIN)
    frames = np.clip(picture.transpose(1, 2, 0) + noise, 0, 255).astype(np.uint8)
    return {"frames": frames, "boxes": person.box(t)}


@dataclass(frozen=True)
class Stills(Shuffled):
    """Parts of single frames around the person, shrunk to `size` pixels.

    cut: range of the side of what is cut out, in pixels of the frame, small ones oftener; its place is
    random, with the person in it where it fits.
    """

    split: FoundSplit
    size: int
    cut: tuple[int, int]

    def draws(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        count = len(self.split.labels)
        return rng.random(count) < 0.5, rng.random((count, 3))

    def clip(self, index: int, *drawn: Any) -> Tensor:
        flip, (larger, down, right) = drawn
        side = round(self.cut[0] + larger**2 * (self.cut[1] - self.cut[0]))
        x0, y0, x1, y1 = self.split.boxes[index].tolist()
        top, left = (_start(*ends, side, share) for *ends, share in ((y0, y1, down), (x0, x1, right)))
        piece = self.split.frames[index][top : top + side, left : left + side]
        return resize((piece.flip(1) if flip else piece).unsqueeze(0), self.size, self.size)


def _start(low: int, high: int, side: int, share: float) -> int:
    """Where a stretch of `side` pixels of the frame begins that holds low to high, or lies within."""
    first, last = sorted((high - side, low))
    return int(np.clip(round(first + share * (last - first)), 0, SIDE - side))
