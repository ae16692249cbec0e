"""Videos of a camera that pans left or right, cut out of any videos, and a third class that holds still.

    python examples/make_pans.py CLIP.mp4 [CLIP.mp4 ..] --out pans

makes `pans/train/CLASS/*.mp4` from the first three fifths of each clip and `pans/val/CLASS/*.mp4` from
its last third, so that no frame is in both. Place, size and speed of the window are drawn anew for each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from foveate.data.synthetic.encode import encode_h264
from foveate.video import open_video

CLASSES = {"pan left": -1, "pan right": 1, "hold": 0}  # --classes takes the first so many
PARTS = {"train": (0.0, 0.6), "val": (0.67, 1.0)}  # of each clip
FRAMES, FPS, SIDE = 24, 12, 160


def pan(clip: np.ndarray, direction: int, rng: np.random.Generator) -> np.ndarray:
    """A square window of a clip (T, H, W, 3), moved by 0.15 to 0.6 of its side where there is room."""
    length, height, width = clip.shape[:3]
    side = int(rng.uniform(0.5, 0.75) * min(height, width))
    travel = direction * min(rng.uniform(0.15, 0.6) * side, width - side)
    least, most = max(0.0, -travel), min(width - side, width - side - travel)
    left = rng.uniform(least, most) + travel * np.linspace(0, 1, FRAMES)
    top = int(rng.integers(0, height - side + 1))
    first = int(rng.integers(0, max(1, length - FRAMES)))
    shown = []
    for number, start in enumerate(left.round().astype(int)):
        frame = clip[min(first + number, length - 1), top : top + side, start : start + side]
        shown.append(np.asarray(Image.fromarray(frame).resize((SIDE, SIDE))))
    return np.stack(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("pans"))
    parser.add_argument("--train", type=int, default=60, help="videos of each class")
    parser.add_argument("--val", type=int, default=20, help="videos of each class")
    parser.add_argument("--classes", type=int, default=2, choices=(2, 3))
    given = parser.parse_args()
    classes = list(CLASSES.items())[: given.classes]
    rng = np.random.default_rng(0)
    clips = []
    for path in given.clips:
        with open_video(path) as video:
            clips.append(video.read(range(video.info.frames)))
    for part, count in (("train", given.train), ("val", given.val)):
        for name, direction in classes:
            folder = given.out / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                clip = clips[number % len(clips)]
                begin, end = (int(share * len(clip)) for share in PARTS[part])
                frames = pan(clip[begin:end], direction, rng)
                (folder / f"{number:03d}.mp4").write_bytes(encode_h264(frames, FPS, crf=20))
    print(f"{given.out}: {len(classes)} classes, {given.train} and {given.val} videos of each")


if __name__ == "__main__":
    main()
