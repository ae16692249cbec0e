"""Small inputs of the kinds that people have trouble with: videos that carry their frame numbers, odd tables.

Each maker writes below a folder and returns what is to be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from foveate.data.synthetic.encode import encode_h264

FPS = 12
SIDE = (64, 96)  # height, width
FINDER = bytes.fromhex("0005160700020000") + b"Mac OS X".ljust(300, b"\0")


def frame(number: int) -> np.ndarray:
    """A grey RGB picture, one brightness for each number from 0 to 63."""
    return np.full((*SIDE, 3), 4 * (number % 64), np.uint8)


def number_of(picture: np.ndarray) -> int:
    """The number that `frame` drew, through the losses of H.264."""
    return round(float(picture.mean()) / 4)


def video(path: Path, numbers: Iterable[int] = range(16)) -> Path:
    """An H.264 file of 12 frames a second that show these numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_h264(np.stack([frame(number) for number in numbers]), FPS, crf=10))
    return path


def empty(folder: Path, *names: str) -> None:
    """Files that lists can name, where nothing is decoded."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def companions(folder: Path, apart: bool) -> Path:
    """Classes run and walk of three videos each after a Mac had them, on a FAT disk or (apart) in a zip."""
    for group in ("run", "walk"):
        for number in range(3):
            name = f"{group}{number}.mp4"
            video(folder / group / name)
            beside = folder / "__MACOSX" / group if apart else folder / group
            beside.mkdir(parents=True, exist_ok=True)
            (beside / f"._{name}").write_bytes(FINDER)
    (folder / "run" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(100))
    return folder


def kinetics(folder: Path) -> Path:
    """The official table of eight clips of two classes, seven of which lie in a folder a class."""
    rows = ["label,youtube_id,time_start,time_end,split"]
    for group in ("abseiling", "playing chess"):
        for number in range(4):
            name, second = f"{'-' if number == 0 else 'b'}Q7_{number}{group[:2]}x-Yz", 10 * number
            rows.append(f"{group},{name},{second},{second + 10},train")
            if (group, number) != ("abseiling", 2):
                empty(folder, f"train/{group}/{name}_{second:06d}_{second + 10:06d}.mp4")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    return folder / "train.csv"
