"""The cluttered, moving place behind the person.

A smooth texture with resting things on it is drawn once, larger than the frame, and panned; others glide and
turn on top. Some are crosses of limb-like sticks, so that a stick alone does not give the person away.
Lengths are in sides (the short side of the frame): equal draws give the same scene at any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foveate.data.synthetic.config import FiguresConfig
from foveate.data.synthetic.draw import capsule, rectangle
from foveate.data.synthetic.texture import smooth_texture

_Shape = Literal["rectangle", "disc", "bar", "cross"]
_SHAPES: tuple[_Shape, ...] = ("rectangle", "disc", "bar", "cross")


@dataclass(frozen=True)
class Thing:
    """A distractor: a shape of one colour that glides and turns evenly."""

    shape: _Shape
    start: np.ndarray  # (2,) x, y of its centre at time 0, in sides
    glide: np.ndarray  # (2,) way until time 1, in sides
    angle: float
    turn: float  # radians until time 1
    size: float  # half its length, in sides
    slim: float  # its width against its length
    arms: np.ndarray  # (4,) angles of the sticks of a cross
    colour: np.ndarray  # (3,) float32

    def draw(self, picture: np.ndarray, time: float, side: int) -> None:
        """Paint it on a float32 picture (3, H, W) whose short side has `side` pixels."""
        x, y = ((self.start + self.glide * time) * side - 0.5).tolist()
        angle, size = self.angle + self.turn * time, self.size * side
        thin = size * self.slim
        if self.shape == "rectangle":
            rectangle(picture, (x, y), (size, thin), angle, self.colour)
        elif self.shape == "disc":
            capsule(picture, (x, y), (x, y), size * 0.8, size * 0.8, self.colour)
        elif self.shape == "bar":
            rectangle(picture, (x, y), (size * 1.3, thin * 0.3), angle, self.colour)
        else:
            for arm in self.arms + angle:
                tip = (x + size * math.cos(arm), y + size * math.sin(arm))
                capsule(picture, (x, y), tip, thin * 0.22, thin * 0.18, self.colour)


@dataclass(frozen=True)
class Scene:
    """A background in motion: frame t is cut out of `ground` at `corners[t]`, moving things on top."""

    ground: np.ndarray  # float32 (3, H', W'), larger than the frame
    corners: np.ndarray  # (T, 2) int, left and top of each frame's cut
    things: Sequence[Thing]
    times: np.ndarray  # (T,)

    def draw(self, picture: np.ndarray, t: int, side: int) -> None:
        """Fill a float32 picture (3, H, W) with frame t."""
        left, top = self.corners[t]
        height, width = picture.shape[1:]
        picture[:] = self.ground[:, top : top + height, left : left + width]
        for thing in self.things:
            thing.draw(picture, self.times[t], side)


def make_scene(
    config: FiguresConfig, width: int, height: int, times: np.ndarray, rng: np.random.Generator
) -> Scene:
    """A scene of `width` x `height` pixels at `times` (T,), 0 the start of the video and 1 its end."""
    side = min(width, height)
    margin = round(config.pan * side)
    ground = smooth_texture(rng, height + margin, width + margin, config.texture_light, cells=6)
    area = np.array([width + margin, height + margin]) / side
    for thing in _things(config.scenery, area, config.clutter_light, rng):
        thing.draw(ground, 0.0, side)
    way = rng.uniform(0, margin, (2, 2))
    corners = np.rint(way[0] + np.outer(times, way[1] - way[0])).astype(int)
    things = _things(config.clutter, np.array([width, height]) / side, config.clutter_light, rng)
    return Scene(ground, corners, things, times)


def _things(
    count: tuple[int, int], area: np.ndarray, light: tuple[float, float], rng: np.random.Generator
) -> list[Thing]:
    return [_thing(area, light, rng) for _ in range(rng.integers(count[0], count[1] + 1))]


def _thing(area: np.ndarray, light: tuple[float, float], rng: np.random.Generator) -> Thing:
    return Thing(
        shape=_SHAPES[rng.integers(len(_SHAPES))],
        start=rng.uniform(size=2) * area,
        glide=rng.uniform(-0.35, 0.35, 2),
        angle=rng.uniform(0, 2 * np.pi),
        turn=rng.uniform(-np.pi, np.pi),
        size=rng.uniform(0.05, 0.15),
        slim=rng.uniform(0.35, 0.9),
        arms=np.arange(4) * np.pi / 2 + rng.uniform(-0.5, 0.5, 4),
        colour=rng.uniform(*light, 3).astype(np.float32),
    )
