"""Move4MNIST: which way does a digit move, when most frames do not show it?

The toy task of full-video clustering (Liu et al., "No Frame Left Behind: Full Video Action Recognition", CVPR
2021), rebuilt from what its released lists and example videos show. One digit moves left, right, up or down,
a little at each frame that shows it. Between those frames lie others: first some with a digit that never
moves, then black ones, then some with the background alone. Whoever looks at few frames may see too little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from foveate.data.synthetic.encode import encode_h264
from foveate.data.synthetic.folder import SPLITS, FolderSettings, Made, Progress, make_folder
from foveate.data.synthetic.texture import smooth_texture
from foveate.errors import UsageError

DIRECTIONS = ("left", "right", "up", "down")
KINDS = ("mover", "still", "black", "plain")
MOVER, STILL, BLACK, PLAIN = range(4)
_STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # x, y of each direction
_DIGIT = 28  # side of an MNIST digit, in pixels


def _moved(appearance: int, step: float) -> int:
    """Pixels from the start at an appearance, counted from 0; half a pixel is rounded up."""
    return int(np.floor(appearance * step + 0.5))


@dataclass(frozen=True)
class Move4MnistConfig:
    """How hard it is to see the motion."""

    frames: int = 32
    canvas: int = 64  # side of the square frame, in pixels, even
    movers: float = 0.5  # share of the frames that show the moving digit, on average
    step: float = 0.5  # pixels moved from one appearance to the next
    # Where the resting digit lies; at the mover's start it hints at the direction.
    still: Literal["start", "anywhere"] = "start"
    fps: int = 16
    crf: float = 18

    def __post_init__(self) -> None:
        if self.frames < 8 or not 0 < self.movers < 1:
            raise UsageError("Move4MnistConfig", "frames must be at least 8 and movers lie between 0 and 1")
        if self.step <= 0:
            raise UsageError("Move4MnistConfig.step", f"is {self.step}", "give a number above 0")
        if self.canvas % 2 or self.canvas < _DIGIT + self.longest_path:
            need = _DIGIT + self.longest_path
            raise UsageError(
                "Move4MnistConfig.canvas", f"is {self.canvas}", f"give an even number from {need}"
            )

    @property
    def most_movers(self) -> int:
        """The largest number of frames that can show the moving digit."""
        most = round(self.frames * self.movers) + self.frames // 16
        return int(np.clip(most, 2, self.frames - 3))

    @property
    def longest_path(self) -> int:
        """The longest way a digit can go, in pixels."""
        return _moved(self.most_movers - 1, self.step)


@dataclass(frozen=True)
class Move4MnistVideo:
    """One video before encoding, with everything that was drawn by lot."""

    frames: np.ndarray = field(repr=False)  # uint8 (T, H, W, 3)
    label: int
    kinds: tuple[str, ...]  # of each frame
    digits: tuple[int, int]  # moving and resting digit, indices into the stored MNIST images
    start: tuple[int, int]  # left and top of the moving digit at its first appearance, in pixels


_DEFAULT = Move4MnistConfig()


def make_move4mnist(
    folder: Path,
    train: int = 1800,
    val: int = 600,
    test: int = 0,
    seed: int = 0,
    config: Move4MnistConfig = _DEFAULT,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the data set as H.264 files with a JSON file beside each; returns the list file of each split.

    A rerun keeps what is finished. `progress(done, total)` is called after each video. Raises UsageError if
    the folder was made with another seed or configuration, OutputError if it cannot be written.
    """
    settings = FolderSettings("move4mnist", seed, DIRECTIONS, config.frames, config)
    counts = {"train": train, "val": val, "test": test}
    return make_folder(Path(folder), settings, partial(_make, config, seed), counts, workers, progress)


def render_move4mnist(config: Move4MnistConfig, seed: int, split: str, index: int) -> Move4MnistVideo:
    """Draw video `index` of a split ("train", "val" or "test") as frames, without encoding."""
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    label = index % len(DIRECTIONS)
    kinds = _kinds(config, rng)
    images, labels = mnist_digits()
    mover, resting = _two_digits(labels, digits_of(split), rng)
    path = np.outer(_moves(kinds, config.step), _STEPS[label])
    start = _place(config.canvas, path, rng)
    rest = start if config.still == "start" else _place(config.canvas, path[:1], rng)
    frames = _background(config, seed)
    for t, kind in enumerate(kinds):
        if kind == MOVER:
            _paste(frames[t], images[mover], start + path[t])
        elif kind == STILL:
            _paste(frames[t], images[resting], rest)
        elif kind == BLACK:
            frames[t] = 0
    colour = np.repeat(frames[..., None], 3, axis=-1)
    names = tuple(KINDS[kind] for kind in kinds)
    return Move4MnistVideo(colour, label, names, (mover, resting), (int(start[0]), int(start[1])))


def digits_of(split: str) -> np.ndarray:
    """Indices of the MNIST images that a split may use: 70, 15 or 15 % of each class, none in two splits."""
    place = np.arange(len(mnist_digits()[1])) % 20
    first, last = {"train": (0, 14), "val": (14, 17), "test": (17, 20)}[split]
    return np.flatnonzero((place >= first) & (place < last))


def _make(config: Move4MnistConfig, seed: int, split: int, index: int) -> Made:
    video = render_move4mnist(config, seed, SPLITS[split], index)
    facts = {
        "direction": DIRECTIONS[video.label],
        "seed": [seed, split, index],
        "kinds": video.kinds,
        "digits": video.digits,
        "start": video.start,
    }
    return Made(encode_h264(video.frames, config.fps, config.crf), facts)


@cache
def mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """The stored MNIST images, uint8 (N, 28, 28), and what they show, (N,)."""
    with np.load(Path(__file__).with_name("mnist_digits.npz")) as stored:
        return stored["images"], stored["labels"]


def _two_digits(labels: np.ndarray, allowed: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """A moving and a resting digit of different classes."""
    mover = rng.choice(allowed)
    return int(mover), int(rng.choice(allowed[labels[allowed] != labels[mover]]))


def _kinds(config: Move4MnistConfig, rng: np.random.Generator) -> np.ndarray:
    """Kind of each frame: the movers anywhere; the others still, black, plain in this order."""
    total, middle, spread = config.frames, round(config.frames * config.movers), config.frames // 16
    low = max(middle - spread, 2)
    movers = int(np.clip(rng.binomial(total, config.movers), low, config.most_movers))
    sizes = np.full(3, (total - movers) // 3)
    sizes[rng.permutation(3)[: (total - movers) % 3]] += 1
    # The released videos split their other frames almost, but not exactly, evenly.
    sizes[np.argmax(sizes)] -= 1
    sizes[rng.integers(3)] += 1
    kinds = np.full(total, MOVER)
    others = np.sort(rng.choice(total, total - movers, replace=False))
    kinds[others] = np.repeat([STILL, BLACK, PLAIN], sizes)
    return kinds


def _moves(kinds: np.ndarray, step: float) -> np.ndarray:
    """Pixels from the start at each frame; the digit waits while it is hidden."""
    appearance = np.maximum(np.cumsum(kinds == MOVER) - 1, 0)
    return np.array([_moved(int(k), step) for k in appearance])


def _place(canvas: int, path: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A start (left, top) from which the whole path (T, 2) stays on the canvas."""
    low = -path.min(axis=0)
    high = canvas - _DIGIT - path.max(axis=0)
    return rng.integers(low, high + 1)


def _paste(frame: np.ndarray, digit: np.ndarray, place: Sequence[int] | np.ndarray) -> None:
    area = frame[place[1] : place[1] + _DIGIT, place[0] : place[0] + _DIGIT]
    np.maximum(area, digit, out=area)


def _background(config: Move4MnistConfig, seed: int) -> np.ndarray:
    """Frames uint8 (T, S, S) that all videos of a data set share: a 4:3 view of a texture that trembles."""
    rng = np.random.default_rng((seed, len(SPLITS)))
    side, bar, shake = config.canvas, config.canvas // 8, 2
    height = side - 2 * bar
    texture = smooth_texture(rng, height + shake, side + shake, (20, 130), cells=6)[0]
    frames = np.zeros((config.frames, side, side), np.uint8)
    for frame, (top, left) in zip(frames, rng.integers(0, shake + 1, (config.frames, 2)), strict=True):
        frame[bar : side - bar] = texture[top : top + height, left : left + side]
    return frames
