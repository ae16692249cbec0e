"""A folder of numbered images as a video, the form in which many action data sets are distributed.

Names follow a template such as `img_{:05d}.jpg` or `img_%05d.jpg`; without one, the largest series of names
that differ only in their last number is used. Frame 0 is the image with the lowest number.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from foveate.errors import UsageError
from foveate.video.base import DecodeError, Limits, Scan, Video, VideoInfo
from foveate.video.source import explain, file_identity

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)  # the last number of a name
NUMBER_FIELD = re.compile(r"\{\d?(?::0?(\d*)d?)?\}|%0?(\d*)d")
READ_ERRORS = (
    *(OSError, ValueError, SyntaxError, MemoryError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


class ImageVideo(Video):
    """Images of one folder in the order of their numbers, resized to the size of the first."""

    def __init__(
        self, folder: Path, template: str | None, fps: float, limits: Limits, quick: bool = False
    ) -> None:
        """quick: look at the first picture alone, also in `scan`."""
        names = _list(folder)
        numbered = _largest_series(folder, names) if template is None else _matching(names, template)
        if not numbered:
            what = f"pictures like {template}" if template else "numbered pictures"
            raise DecodeError(folder, f"a folder without {what}", "name them like img_00001.jpg")
        self._limits = limits
        self._quick = quick
        self._files = [folder / numbered[number] for number in sorted(numbered)]
        self.damage = _gaps(sorted(numbered))
        width, height = self._load(self._files[0]).size
        frames = len(numbered)
        self.info = VideoInfo(str(folder), frames, width, height, fps, frames / fps, "pictures")

    @property
    def times(self) -> NDArray[np.float64]:
        return np.arange(self.info.frames) / self.info.fps

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        requested = self._checked(indices)
        wanted, order = np.unique(requested, return_inverse=True)
        out = np.empty((len(wanted), self.info.height, self.info.width, 3), dtype=np.uint8)
        for slot, position in enumerate(wanted):
            out[slot] = self._frame(position)
        return out if np.array_equal(wanted, requested) else out[order]

    def stream(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        for position in range(self.info.frames):
            yield position / self.info.fps, self._frame(position)

    def scan(self) -> Scan:
        broken = []
        for file in () if self._quick else self._files:
            try:
                self._load(file)
            except DecodeError as error:
                broken.append(f"{file.name}: {error.cause}")
        total = self.info.frames
        left = [f"{total - len(broken)} of {total} pictures can be read ({broken[0]})"] if broken else []
        cause, size = "; ".join(self.damage + left), (self.info.width, self.info.height)
        frames = total - len(broken)
        return Scan("partial" if cause else "ok", cause, frames, *size, self.info.fps, self.info.duration_s)

    def _frame(self, position: int) -> NDArray[np.uint8]:
        picture = self._load(self._files[position])
        size = self.info.width, self.info.height
        return np.asarray(
            picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)
        )

    def _load(self, file: Path) -> Image.Image:
        file_identity(file)
        self.frames_decoded += 1
        try:
            with Image.open(file, formats=FORMATS) as picture:
                if picture.width * picture.height > self._limits.max_pixels:
                    raise DecodeError(file, f"larger than {self._limits.max_pixels} pixels", "shrink it")
                return _rgb(ImageOps.exif_transpose(picture))
        except UnidentifiedImageError as error:
            raise DecodeError(file, "not a picture of an accepted format", "copy it again") from error
        except READ_ERRORS as error:
            raise DecodeError(file, explain(file, error)[0], "copy it again") from error


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip instead of scale
        picture = Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return picture.convert("RGB")


def _list(folder: Path) -> list[str]:
    try:
        # without hidden ones, such as the `._img_00001.jpg` that macOS writes beside a picture
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DecodeError(folder, *explain(folder, error)) from error


def _largest_series(folder: Path, names: Iterable[str]) -> dict[int, str]:
    """Group names that differ only in their last number; return {number: name} of the largest group."""
    all_series: defaultdict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for name in names:
        path = Path(name)
        found = NUMBERED.fullmatch(path.stem)
        if not found or path.suffix.lower() not in SUFFIXES:
            continue
        head, number, tail = found.groups()
        series = all_series[head, tail + path.suffix.lower()]
        if int(number) in series:
            raise DecodeError(folder, f"two pictures have the number {int(number)}", "give a template")
        series[int(number)] = name
    ranked = sorted(all_series.values(), key=len, reverse=True)
    if len(ranked) > 1 and len(ranked[0]) == len(ranked[1]):
        several = " and ".join(next(iter(series.values())) for series in ranked[:2])
        raise DecodeError(folder, f"two series of pictures, {several}", "give a template")
    return ranked[0] if ranked else {}


def _matching(names: Iterable[str], template: str) -> dict[int, str]:
    """Return {number: name} of the names that match a template."""
    fields = list(NUMBER_FIELD.finditer(template))
    if len(fields) != 1:
        raise UsageError(template, "must hold one number field", "for example img_{:05d}.jpg")
    head, tail = template[: fields[0].start()], template[fields[0].end() :]
    width = int(fields[0][1] or fields[0][2] or 0)
    matching = {}
    for name in names:
        digits = name.removeprefix(head).removesuffix(tail)
        if digits.isdecimal() and name == f"{head}{int(digits):0{width}d}{tail}":
            matching[int(digits)] = name
    return matching


def _gaps(numbers: Sequence[int]) -> list[str]:
    """Describe how many numbers are missing from a series with a constant step, in at most one line."""
    steps = np.diff(numbers)
    if not len(steps) or (steps == steps.min()).all():
        return []
    after = numbers[int(np.argmax(steps > steps.min()))]
    missing = (numbers[-1] - numbers[0]) // int(steps.min()) + 1 - len(numbers)
    return [f"{missing} pictures are missing, the first after number {after}"]
