"""A person on the picture: a body in space, seen from the side at a slant, somewhere, in light clothes.

Size, place, heading, speed, clothes and a slow drift are drawn by the same law in the same order for every
action, so that only the movement of the body tells what the person does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from foveate.data.synthetic.actions import POSES, Pose
from foveate.data.synthetic.body import LEFT, RIGHT, SHIRT, TROUSERS, body_parts, mirrored
from foveate.data.synthetic.config import FiguresConfig
from foveate.data.synthetic.draw import capsule

Outfit = Literal["red over blue", "blue over red"]
OUTFITS: dict[Outfit, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "red over blue": ((230, 60, 60), (60, 90, 230)),
    "blue over red": ((60, 90, 230), (230, 60, 60)),
}  # RGB of shirt and trousers: the same colours, so that only their places tell
_FAR_LIGHT = 0.92  # light of the limbs on the far side


@dataclass(frozen=True)
class Person:
    """Sticks with round ends on the picture over T frames; lengths in sides, x to the right, y down."""

    ends: np.ndarray  # (T, P, 2, 2)
    radii: np.ndarray  # (P, 2)
    colours: np.ndarray  # (P, 3), 0..255
    order: np.ndarray  # (T, P), parts from far to near

    def boxes(self) -> np.ndarray:
        """Left, top, right, bottom of the whole person in each frame, (T, 4)."""
        radii = self.radii[:, :, None]
        low, high = (self.ends - radii).min(axis=(1, 2)), (self.ends + radii).max(axis=(1, 2))
        return np.concatenate([low, high], axis=1)

    def draw(self, picture: np.ndarray, t: int, side: int) -> None:
        """Paint frame t on a float32 picture (3, H, W) whose short side has `side` pixels."""
        # A pixel's centre is half a pixel inside.
        ends, radii = (self.ends[t] * side - 0.5).tolist(), (self.radii * side).tolist()
        for part in self.order[t]:
            (a, b), (radius_a, radius_b) = ends[part], radii[part]
            capsule(picture, a, b, radius_a, radius_b, self.colours[part])


def make_person(
    config: FiguresConfig,
    action: str,
    area: np.ndarray,
    times: np.ndarray,
    rng: np.random.Generator,
    outfit: Outfit | None = None,
) -> Person:
    """A person doing `action` at `times` (T,), 0 the start of the video and 1 its end.

    `area` is the width and height of the frame in sides. `outfit`: None draws any light clothes.
    """
    stature, limb, cycles, heading = (
        rng.uniform(*span) for span in (config.stature, config.limb, config.cycles, config.heading)
    )
    facing, handed = rng.choice((-1, 1), 2)
    clothes = rng.uniform(*config.figure_light, (4, 3))
    if outfit is not None:
        clothes[SHIRT], clothes[TROUSERS] = OUTFITS[outfit]
    pose = POSES[action](2 * np.pi * (cycles * times + rng.uniform()))
    pose = _jittered(pose if handed > 0 else mirrored(pose), times, config.jitter, rng)
    parts = body_parts(pose, limb, len(times))
    places, depth = _view(parts.ends * stature, heading, facing)
    ends = places + _drift(times, config.drift, rng)[:, None, None]
    far = parts.side == (LEFT if facing > 0 else RIGHT)
    colours = clothes[parts.cloth] * np.where(far, _FAR_LIGHT, 1)[:, None]
    order = np.argsort(-depth.mean(axis=2), axis=1, kind="stable")
    person = Person(ends, parts.radii * stature, colours.astype(np.float32), order)
    return replace(person, ends=ends + _place(area, config.roam, person.boxes(), rng))


def _jittered(pose: Pose, times: np.ndarray, jitter: float, rng: np.random.Generator) -> Pose:
    """The pose with every angle off by its own slow wave, another one on each side."""
    angles = {}
    for field in fields(Pose):
        size, rate, phase = rng.normal(0, jitter, 2), rng.uniform(0.3, 1.5, 2), rng.uniform(0, 2 * np.pi, 2)
        wave = size * np.sin(2 * np.pi * rate * times[:, None] + phase)
        both = 1 if field.name in ("lean", "tip") else 2
        angles[field.name] = getattr(pose, field.name) + wave[:, :both]
    return replace(pose, **angles | {"lift": pose.lift})


def _view(points: np.ndarray, heading: float, facing: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture places (..., 2) and distance from the viewer (...) of points in space (..., 3).

    The person faces right (`facing` 1) or left (-1), turned towards the viewer by `heading` radians.
    """
    forward, left, up = np.moveaxis(points, -1, 0)
    cos, sin = facing * np.cos(heading), np.sin(heading)
    return np.stack([forward * cos + left * sin, -up], axis=-1), left * cos - forward * sin


def _drift(times: np.ndarray, farthest: float, rng: np.random.Generator) -> np.ndarray:
    """A slow, slightly bent glide (T, 2) in any direction."""
    length, direction, bend = rng.uniform(0, farthest), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.15)
    along = np.array([np.cos(direction), np.sin(direction)])
    across = np.array([-along[1], along[0]])
    return length * (np.outer(times, along) + bend * np.outer(np.sin(np.pi * times), across))


def _place(
    area: np.ndarray, roam: tuple[float, float], boxes: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A shift (2,) that puts the whole video's boxes (T, 4) uniformly inside the roamed part of the frame.

    A person too large for that part is centred on it.
    """
    room = area * np.array(roam)
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    slack = room - (high - low)
    share = rng.uniform(size=2)
    return (area - room) / 2 - low + np.where(slack > 0, share, 0.5) * slack
