"""A contact sheet: pictures of a video in rows, each with a few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFont

from foveate.io import atomic_write

COLUMNS, CELL = 4, 320  # pictures in a row, pixels of their width
MOST = 40  # pictures of a sheet
NOTE = 36  # pixels of the line above them that says what is left out
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
T = TypeVar("T")


def thinned(items: Sequence[T]) -> Sequence[T]:
    """Every k-th of them, so that a sheet holds them."""
    return items[:: max(1, -(-len(items) // MOST))]


def left_out(shown: int, total: int, what: str) -> str:
    """What a sheet says of items that `thinned` has left out; nothing if there are none."""
    return "" if shown == total else f"{shown} of {total} {what}: one in {-(-total // MOST)}"


def write_pictures(pictures: Iterable[Image.Image], out: Path, note: str = "") -> Path:
    """Write pictures of one size as a PNG, below a line of words if there is one to say.

    OutputError where that cannot be.
    """
    shown = list(pictures)
    width, height = shown[0].size
    above = NOTE if note else 0
    sheet = Image.new("RGB", (COLUMNS * width, above + -(-len(shown) // COLUMNS) * height))
    if note:
        ImageDraw.Draw(sheet).text((6, 6), note, WHITE, font=ImageFont.load_default(size=NOTE // 2))
    for number, picture in enumerate(shown):
        sheet.paste(picture, (number % COLUMNS * width, above + number // COLUMNS * height))
    with atomic_write(out) as part:
        sheet.save(part, "PNG")
    return out


def caption(picture: Image.Image, text: str) -> Image.Image:
    """The picture with words in its upper left corner."""
    font = ImageFont.load_default(size=max(12, picture.height // 14))
    draw = ImageDraw.Draw(picture)
    draw.text((6, 4), text, WHITE, font=font, stroke_width=2, stroke_fill=BLACK)
    return picture
