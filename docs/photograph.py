"""Photograph pages with headless Chromium, and make the pictures small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from browser import BROWSERS, find_browser
from PIL import Image

MOST_BYTES = 300_000
NO_BROWSER = f"error: no browser (install one of {', '.join(BROWSERS)})"


def photograph(page: Path, out: Path, size: tuple[int, int], dark: bool) -> None:
    """A picture of a page in a window of width and height, small enough for a document."""
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=2000",
    ]
    shot = page.with_name("shot.png")
    options += [f"--screenshot={shot}", f"--window-size={size[0]},{size[1]}"]
    options += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command = [find_browser() or sys.exit(NO_BROWSER), *options, f"file://{page.resolve()}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    shrink(shot, out)


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
