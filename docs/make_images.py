"""Make the pictures of reports in docs/images/: `python docs/make_images.py [FOLDER]`.

Makes videos of small figures, trains a small AdaFocus on them (some minutes on two cores), writes its report
and photographs it with headless Chromium: light and dark, wide and narrow. FOLDER keeps the videos, the run
and the page; what is there is not made again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TRAIN = "--model adafocus_small --weights figures --recipe small"
PICTURES = {  # file -> width and height of the window, dark
    "report_light.png": (1200, 1500, False),
    "report_dark.png": (1200, 1500, True),
    "report_all.png": (1200, 6400, False),
    "report_phone_light.png": (400, 1500, False),
    "report_phone_dark.png": (400, 1500, True),
}
MOST_BYTES = 500_000


def main(folder: Path) -> None:
    """Make everything that is not there, and the pictures anew."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: no browser (install one of {', '.join(BROWSERS)})")
    if not (folder / "figures/val.jsonl").exists():
        foveate(folder, "data make figures figures --train 340 --val 80 --test 0")
    if not (folder / "adafocus/best.safetensors").exists():
        lists = "--videos figures/train.jsonl --val figures/val.jsonl"
        foveate(folder, f"train {lists} --out adafocus {TRAIN}")
    foveate(folder, "report adafocus")
    IMAGES.mkdir(exist_ok=True)
    page = f"file://{folder.resolve()}/adafocus/report.html"
    for name, (width, height, dark) in PICTURES.items():
        photograph(browser, page, IMAGES / name, (width, height), dark)


def foveate(folder: Path, words: str) -> None:
    """Run a verb in the folder."""
    subprocess.run([sys.executable, "-m", "foveate", *words.split()], cwd=folder, check=True)


def photograph(browser: str, address: str, out: Path, size: tuple[int, int], dark: bool) -> None:
    """A picture of a page, of few enough colours to be small."""
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=2000",
    ]
    options += [f"--screenshot={out}", f"--window-size={size[0]},{size[1]}"]
    options += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    subprocess.run([browser, *options, address], check=True, capture_output=True, timeout=300)
    for colours in (256, 128, 64):
        with Image.open(out) as picture:
            few = picture.convert("RGB").quantize(colours)
        few.save(out, optimize=True)
        if out.stat().st_size < MOST_BYTES:
            return
    sys.exit(f"error: {out}: still {out.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
