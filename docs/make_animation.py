"""Make the moving picture of the README: `python docs/make_animation.py`, ten seconds on a CPU.

Draws three videos of small figures, lets the small AdaFocus of the package name them, and joins the overlays
that `foveate predict --overlay` writes of them into one animated WebP. The figures cross more of the frame
than those that the model was trained on, so that the patch has something to follow; seeds and actions were
chosen for that from 160, and the covered share of the person is printed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import foveate
from foveate.data.synthetic import FiguresConfig
from foveate.data.synthetic.encode import encode_h264
from foveate.data.synthetic.figures import render_clip
from foveate.video import open_video

OUT = Path(__file__).parent / "images" / "looks.webp"
CONFIG = FiguresConfig(drift=0.6, roam=(0.95, 0.9))
CHOSEN = (("run", 20), ("fall", 27), ("walk", 19))  # action, seed
GAP = 6  # pixels between two videos
MOST_BYTES = 1_500_000


def main() -> None:
    """Write the animation; exits with an error if it is too large for a page."""
    with tempfile.TemporaryDirectory() as folder:
        panels = [overlay(Path(folder), action, seed) for action, seed in CHOSEN]
    frames = [Image.fromarray(beside(row)) for row in zip(*panels, strict=True)]
    frames[0].save(
        OUT,
        save_all=True,
        append_images=frames[1:],
        duration=1000 // CONFIG.fps,
        loop=0,
        quality=60,
        method=4,
    )
    if OUT.stat().st_size > MOST_BYTES:
        sys.exit(f"error: {OUT}: {OUT.stat().st_size} bytes (lower the quality)")
    sys.stdout.write(f"{OUT}: {OUT.stat().st_size} bytes\n")


def overlay(folder: Path, action: str, seed: int) -> np.ndarray:
    """Frames of the overlay of one drawn video, uint8 (T, H, W, 3)."""
    clip = render_clip(CONFIG, (0, 2, seed), label=CONFIG.actions.index(action))
    video, drawn = folder / f"{action}.mp4", folder / f"{action}_looks.mp4"
    video.write_bytes(encode_h264(clip.frames, CONFIG.fps, CONFIG.crf))
    result = foveate.predict(video, "adafocus_small", "figures", window=0)
    result.save(drawn)
    shares = [covered(look.box, clip.boxes[look.frame]) for look in result.boxes]
    sys.stdout.write(f"{action}: named {result.label}, {np.mean(shares):.0%} of the person in the patch\n")
    with open_video(drawn) as opened:
        return np.stack([rgb for _, rgb in opened.stream()])


def covered(patch: tuple[int, int, int, int], person: np.ndarray) -> float:
    """Share of the person's box that lies in the patch; both are left, top, right, bottom."""
    low, high = np.maximum(patch[:2], person[:2]), np.minimum(patch[2:], person[2:])
    return float(np.prod(np.clip(high - low, 0, None)) / np.prod(person[2:] - person[:2]))


def beside(pictures: tuple[np.ndarray, ...]) -> np.ndarray:
    """Pictures of one size in a row, with a white gap between two."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    row = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(row[:-1], axis=1)


if __name__ == "__main__":
    main()
