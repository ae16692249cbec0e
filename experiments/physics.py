"""Small simulated mechanisms in clutter: videos that no part of the package has seen.

A mechanism of experiments/mechanisms.py stands somewhere in a cluttered place before a camera that shakes.
It takes up a quarter to a third of the frame's side. Its colours, size, turn, mirror image, foreshortening,
way and place are drawn by the same law for every class, and so are the things that glide about. The box of
the mechanism in every frame is kept, so that where a network looks can be judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from experiments.mechanisms import WORLDS, Sticks
from foveate.data.synthetic import FigureClip, FiguresConfig
from foveate.data.synthetic.draw import capsule
from foveate.data.synthetic.encode import encode_h264
from foveate.data.synthetic.folder import FolderSettings, Made, Progress, make_folder
from foveate.data.synthetic.scene import make_scene
from foveate.data.synthetic.texture import smooth_texture

World = Literal["free", "driven"]
Range = tuple[float, float]


@dataclass(frozen=True)
class PhysicsConfig:
    """Look of the videos; pairs are ranges that each video draws from. "Side" is that of the square frame."""

    world: World = "free"
    side: int = 320  # pixels, even
    frames: int = 24
    fps: int = 10
    size: Range = (0.25, 0.35)  # longer side of the mechanism's box, in sides, halfway through the video
    turn: float = 0.35  # radians by which a mechanism leans at most
    slant: Range = (0.7, 1.0)  # foreshortening in a random direction
    edge: Range = (1.0, 2.0)  # pixels of the outline, dark or light; (0, 0) leaves colours alone to be seen
    drift: float = 0.12  # farthest that a mechanism glides, in sides
    shake: float = 0.02  # farthest that the camera strays from its way, in sides
    clutter: tuple[int, int] = (3, 6)  # gliding things
    scenery: tuple[int, int] = (10, 18)  # resting things
    contrast: float = 110.0  # least distance of a colour of the mechanism from its outline's, channel values
    grain: float = 3.0  # standard deviation, channel values
    crf: float = 23  # x264 quality: less is better

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(simulation.__name__ for simulation in WORLDS[self.world])


@dataclass(frozen=True)
class Mechanism:
    """Sticks in the frame. ends: (T, P, 2, 2) pixels. radii: (P,). colours: (P, 3). outline: (3,)."""

    ends: np.ndarray
    radii: np.ndarray
    colours: np.ndarray
    outline: np.ndarray
    edge: float  # pixels of the outline

    def boxes(self) -> np.ndarray:
        """Left, top, right, bottom in each frame, (T, 4)."""
        reach = (self.radii + self.edge)[:, None, None]
        return np.concatenate(
            [(self.ends - reach).min(axis=(1, 2)), (self.ends + reach).max(axis=(1, 2))], axis=1
        )

    def draw(self, picture: np.ndarray, t: int) -> None:
        """Paint frame t on a float32 picture (3, H, W): each part on the one before, with an outline."""
        for (a, b), radius, colour in zip(self.ends[t] - 0.5, self.radii, self.colours, strict=True):
            capsule(picture, a, b, radius + self.edge, radius + self.edge, self.outline)
            capsule(picture, a, b, radius, radius, colour)


def render(config: PhysicsConfig, seed: int | Sequence[int], label: int) -> FigureClip:
    """Draw a video; a function of its arguments alone."""
    made, placed, scene_rng, camera, grain = np.random.default_rng(seed).spawn(5)
    side, margin = config.side, round(config.shake * config.side)
    seconds = np.arange(config.frames) / config.fps
    sticks = WORLDS[config.world][label](made, seconds)
    mechanism = place(config, sticks, placed)
    shares = (np.arange(config.frames) + 0.5) / config.frames
    wide = side + 2 * margin
    look = FiguresConfig(
        pan=0.15,
        clutter=config.clutter,
        scenery=config.scenery,
        clutter_light=(0, 255),
        texture_light=(20, 235),
    )
    scene = make_scene(look, wide, wide, shares, scene_rng)
    rough = smooth_texture(scene_rng, *scene.ground.shape[1:], (-30, 30), cells=40)
    scene.ground[:] += rough + smooth_texture(scene_rng, *scene.ground.shape[1:], (-30, 30), cells=110)
    stray = np.clip(np.cumsum(camera.normal(0, margin / 3, (config.frames, 2)), axis=0), -margin, margin)
    corners = np.rint(margin + stray).astype(int)
    frames = np.empty((config.frames, side, side, 3), np.uint8)
    picture = np.empty((3, wide, wide), np.float32)
    noise = grain.standard_normal((side + 64, side + 64, 1), np.float32) * np.float32(config.grain)
    for t, (left, top) in enumerate(corners):
        scene.draw(picture, t, wide)
        mechanism.draw(picture, t)
        seen = picture[:, top : top + side, left : left + side].transpose(1, 2, 0)
        y, x = grain.integers(0, 65, 2)
        frames[t] = np.clip(seen + noise[y : y + side, x : x + side], 0, 255)
    boxes = mechanism.boxes() - np.concatenate([corners, corners], axis=1)
    boxes = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    return FigureClip(frames, np.clip(boxes, 0, side).astype(int), label)


def place(config: PhysicsConfig, sticks: Sticks, rng: np.random.Generator) -> Mechanism:
    """The mechanism as a camera sees it: coloured, leaning, slanted, of some size, somewhere, gliding."""
    lean, axis = rng.uniform(-config.turn, config.turn), rng.uniform(0, np.pi)
    view = _turned(axis) @ np.diag([1, rng.uniform(*config.slant)]) @ _turned(-axis)
    view = view @ _turned(lean) @ np.diag([rng.choice((-1, 1)), 1])
    ends = sticks.ends @ view.T
    shape = Mechanism(ends, sticks.radii, np.zeros(0), np.zeros(0), 0.0)
    boxes = shape.boxes()
    longest = np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1))
    scale = rng.uniform(*config.size) * config.side / longest
    glide = rng.uniform(0, config.drift) * config.side * _turned(rng.uniform(0, 2 * np.pi))[0]
    ends = ends * scale + np.linspace(-0.5, 0.5, len(ends))[:, None, None, None] * glide
    colours, outline = _paint(config, rng)
    found = Mechanism(ends, sticks.radii * scale, colours[sticks.paints], outline, rng.uniform(*config.edge))
    boxes, margin = found.boxes(), 2 * round(config.shake * config.side)
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    slack = np.maximum(config.side - margin - (high - low), 0)
    ends = ends + margin - low + rng.uniform(size=2) * slack
    return Mechanism(ends, found.radii, found.colours, outline, found.edge)


def make_physics(
    folder: Path,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    config: PhysicsConfig | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write H.264 files with a JSON file beside each, which holds the boxes; the list file of each split."""
    config = config or PhysicsConfig()
    settings = FolderSettings(f"physics {config.world}", seed, config.classes, config.frames, config)
    counts = {"train": train, "val": val, "test": test}
    return make_folder(Path(folder), settings, partial(_make, config, seed), counts, workers, progress)


def _make(config: PhysicsConfig, seed: int, split: int, index: int) -> Made:
    label = index % len(config.classes)
    clip = render(config, (seed, split, index), label)
    facts = {
        "action": config.classes[label],
        "seed": [seed, split, index],
        "fps": config.fps,
        "size": [config.side, config.side],
        "boxes": clip.boxes.tolist(),
    }
    return Made(encode_h264(clip.frames, config.fps, config.crf), facts)


def _turned(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _paint(config: PhysicsConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three colours (3, 3) and that of the outline (3,), dark or light, which all of them stand out from."""
    outline = np.full(3, rng.choice((15, 240)), np.float32) + rng.uniform(-15, 15, 3).astype(np.float32)
    colours: list[np.ndarray] = []
    while len(colours) < 3:
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        if np.linalg.norm(colour - outline) >= config.contrast:
            colours.append(colour)
    return np.stack(colours), outline
