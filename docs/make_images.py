"""Make the pictures of reports in docs/images/: `python docs/make_images.py [FOLDER]`.

Makes videos of small figures, trains a small AdaFocus on them (some minutes on two cores), writes its report
and photographs it with headless Chromium: light and dark, wide and narrow. FOLDER keeps the videos, the run
and the page; what is there is not made again. Last come the pictures of the page of `foveate serve`, of a
notebook, of overlays, and the moving picture of the README, which `make_page.py`, `make_notebook.py`,
`make_overlays.py` and `make_animation.py` make alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import make_animation
import make_notebook
import make_overlays
import make_page
from browser import find_browser
from photograph import NO_BROWSER, photograph

IMAGES = Path(__file__).parent / "images"
TRAIN = "--model adafocus_small --weights figures --recipe small"
PICTURES = {  # file -> width and height of the window, dark
    "report_light.png": (1200, 1500, False),
    "report_dark.png": (1200, 1500, True),
    "report_all.webp": (1200, 6400, False),
    "report_phone_light.png": (400, 1500, False),
    "report_phone_dark.png": (400, 1500, True),
}


def main(folder: Path) -> None:
    """Make everything that is not there, and the pictures anew."""
    if find_browser() is None:  # first of all: the training takes minutes
        sys.exit(NO_BROWSER)
    if not (folder / "figures/val.jsonl").exists():
        foveate(folder, "data make figures figures --train 340 --val 80 --test 0")
    if not (folder / "adafocus/best.safetensors").exists():
        lists = "--videos figures/train.jsonl --val figures/val.jsonl"
        foveate(folder, f"train {lists} --out adafocus {TRAIN}")
    foveate(folder, "report adafocus")
    IMAGES.mkdir(exist_ok=True)
    for name, (width, height, dark) in PICTURES.items():
        photograph(folder / "adafocus/report.html", IMAGES / name, (width, height), dark)
    make_page.main()
    make_notebook.main()
    make_overlays.main()
    make_animation.main()


def foveate(folder: Path, words: str) -> None:
    """Run a verb in the folder."""
    subprocess.run([sys.executable, "-m", "foveate", *words.split()], cwd=folder, check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
