"""A contact sheet: pictures of a video in rows, each with a few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFont

from foveate.io import atomic_write

COLUMNS, CELL = 4, 320  # pictures in a row, pixels of their width
MOST = 40  # pictures of a sheet
PLAIN = 12  # pictures where nothing was chosen in them
NOTE = 36  # pixels of the line above them that says what is left out
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
T = TypeVar("T")


def thinned(items: Sequence[T], most: int = MOST) -> Sequence[T]:
    """Every k-th of them, such that there are at most so many."""
    return items[:: max(1, -(-len(items) // most))]


def left_out(shown: int, total: int, what: str, most: int = MOST) -> str:
    """What a sheet says of items that `thinned` has left out; nothing if there are none."""
    return "" if shown == total else f"{shown} of {total} {what}: one in {-(-total // most)}"


def make_sheet(pictures: Iterable[Image.Image], band: Image.Image, note: str = "") -> Image.Image:
    """Pictures of one size in rows, below a band and a line of words if there is one to say."""
    shown = list(pictures)
    width, height = shown[0].size
    above = band.height + (NOTE if note else 0)
    sheet = Image.new("RGB", (COLUMNS * width, above + -(-len(shown) // COLUMNS) * height))
    sheet.paste(band, (0, 0))
    if note:
        place = (6, band.height + 6)
        ImageDraw.Draw(sheet).text(place, note, WHITE, font=ImageFont.load_default(size=NOTE // 2))
    for number, picture in enumerate(shown):
        sheet.paste(picture, (number % COLUMNS * width, above + number // COLUMNS * height))
    return sheet


def write_sheet_file(sheet: Image.Image, out: Path) -> Path:
    """Write a sheet as a PNG; OutputError where that cannot be."""
    with atomic_write(out) as part:
        sheet.save(part, "PNG")
    return out


def caption(picture: Image.Image, text: str) -> Image.Image:
    """The picture with words in its upper left corner."""
    font = ImageFont.load_default(size=max(picture.height // 14, min(18, picture.width // 8)))
    draw = ImageDraw.Draw(picture)
    draw.text((6, 4), text, WHITE, font=font, stroke_width=2, stroke_fill=BLACK)
    return picture
