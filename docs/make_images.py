"""Make the pictures of reports in docs/images/: `python docs/make_images.py [FOLDER]`.

Makes videos of small figures, trains two small models on them (a few minutes on two cores), writes the report
of one and a comparison of both, and photographs them with headless Chromium: light and dark, wide and narrow.
FOLDER keeps the videos, runs and pages; what is there is not made again.
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
RUNS = {
    "adafocus": "--model adafocus_small --weights figures --recipe small --glance-epochs 3 --local-epochs 0 "
    "--patch-epochs 4 --policy-epochs 2 --tune-epochs 6",
    "tsm": "--model tsm_r10_8 --recipe small --epochs 8 --settings size=96 resize=96",
}
PICTURES = {  # file -> page and place in it, width and height of the window, dark
    "report_light.png": ("adafocus/report.html", 1200, 1500, False),
    "report_dark.png": ("adafocus/report.html#confusion", 1200, 1500, True),
    "report_mistakes.png": ("adafocus/report.html#mistakes", 1200, 1500, False),
    "report_choices.png": ("adafocus/report.html#reliability", 1200, 1500, True),
    "report_phone_light.png": ("adafocus/report.html#confusion", 400, 1500, False),
    "report_phone_dark.png": ("adafocus/report.html#choices", 400, 1500, True),
    "comparison.png": ("comparison.html", 1200, 1500, False),
}
MOST_BYTES = 300_000


def main(folder: Path) -> None:
    """Make everything that is not there, and the pictures anew."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: no browser (install one of {', '.join(BROWSERS)})")
    if not (folder / "figures/val.jsonl").exists():
        foveate(folder, "data make figures figures --train 160 --val 60 --test 0")
    for name, options in RUNS.items():
        if not (folder / name / "best.safetensors").exists():
            lists = "--videos figures/train.jsonl --val figures/val.jsonl"
            foveate(folder, f"train {lists} --out {name} --batch 16 --log-every 2 {options}")
        foveate(folder, f"report {name}")
    foveate(folder, f"report {' '.join(RUNS)} --out comparison.html")
    IMAGES.mkdir(exist_ok=True)
    for name, (page, width, height, dark) in PICTURES.items():
        photograph(browser, f"file://{folder.resolve()}/{page}", IMAGES / name, (width, height), dark)


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
