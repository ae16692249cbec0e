"""Make the pictures of reports in docs/images/: `python docs/make_images.py [FOLDER]`.

Makes videos of small figures, trains a small AdaFocus on them (some minutes on two cores), writes its report
and photographs it with headless Chromium: light and dark, wide and narrow. FOLDER keeps the videos, the run
and the page; what is there is not made again. Last comes the moving picture of the README, which
`python docs/make_animation.py` makes alone, without a browser.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import make_animation
from PIL import Image

IMAGES = Path(__file__).parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TRAIN = "--model adafocus_small --weights figures --recipe small"
PICTURES = {  # file -> width and height of the window, dark
    "report_light.png": (1200, 1500, False),
    "report_dark.png": (1200, 1500, True),
    "report_all.webp": (1200, 6400, False),
    "report_phone_light.png": (400, 1500, False),
    "report_phone_dark.png": (400, 1500, True),
}
MOST_BYTES = 300_000


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
        shot = folder / "shot.png"
        photograph(browser, page, shot, (width, height), dark)
        shrink(shot, IMAGES / name)
    make_animation.main()


def foveate(folder: Path, words: str) -> None:
    """Run a verb in the folder."""
    subprocess.run([sys.executable, "-m", "foveate", *words.split()], cwd=folder, check=True)


def photograph(browser: str, address: str, out: Path, size: tuple[int, int], dark: bool) -> None:
    """A picture of a page, PNG."""
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


def shrink(shot: Path, out: Path) -> None:
    """A small picture: a PNG of few colours, or a WebP where photographs fill much of it."""
    for colours, quality in ((256, 75), (128, 60), (64, 50)):
        with Image.open(shot) as picture:
            plain = picture.convert("RGB")
        if out.suffix == ".webp":
            plain.save(out, quality=quality)
        else:
            plain.quantize(colours).save(out, optimize=True)
        if out.stat().st_size < MOST_BYTES:
            return
    sys.exit(f"error: {out}: still {out.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
