"""A folder of numbered images as a video, the form in which many action data sets are distributed.

Names follow a template such as `img_{:05d}.jpg` or `img_%05d.jpg`; without one, the largest series of names
that differ only in their last number is used. Frame 0 is the image with the lowest number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from foveate.video.base import DecodeError, Limits, Scan, Video, VideoInfo
from foveate.video.numbered import Series, flow_names, gaps, largest_series, matching, names_in
from foveate.video.source import explain, file_identity

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF")
READ_ERRORS = (
    *(OSError, ValueError, SyntaxError, MemoryError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


class PictureVideo(Video):
    """A video of pictures of an even rate, each of which is read by itself."""

    @abstractmethod
    def _frame(self, position: int) -> NDArray[np.uint8]:
        """Frame (H, W, C) at a position; DecodeError if it cannot be read."""

    @property
    def times(self) -> NDArray[np.float64]:
        return np.arange(self.info.frames) / self.info.fps

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        requested = self._checked(indices)
        wanted, order = np.unique(requested, return_inverse=True)
        out = np.empty((len(wanted), self.info.height, self.info.width, self.channels), dtype=np.uint8)
        for slot, position in enumerate(wanted.tolist()):
            out[slot] = self._frame(position)
        return out if np.array_equal(wanted, requested) else out[order]

    def stream(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        for position in range(self.info.frames):
            yield position / self.info.fps, self._frame(position)


class ImageVideo(PictureVideo):
    """Images of one folder in the order of their numbers, resized to the size of the first."""

    def __init__(
        self, folder: Path, template: str | None, fps: float, limits: Limits, quick: bool = False
    ) -> None:
        """quick: look at the first picture alone, also in `scan`."""
        names = names_in(folder)
        numbered = _frames(folder, names) if template is None else matching(names, template)
        if not numbered:
            what = f"pictures like {template}" if template else "numbered pictures"
            raise DecodeError(folder, f"a folder without {what}", "name them like img_00001.jpg")
        self._limits = limits
        self._quick = quick
        self._files = [folder / numbered[number] for number in sorted(numbered)]
        self.damage = gaps(sorted(numbered))
        width, height = self._load(self._files[0]).size
        frames = len(numbered)
        self.info = VideoInfo(str(folder), frames, width, height, fps, frames / fps, "pictures")

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
        self.frames_decoded += 1
        return load_picture(file, self._limits, "RGB")


def load_picture(file: Path, limits: Limits, mode: Literal["RGB", "L"]) -> Image.Image:
    """Read one picture, upright, in colour or (L) in grey; DecodeError if that cannot be done."""
    file_identity(file)
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > limits.max_pixels:
                raise DecodeError(file, f"larger than {limits.max_pixels} pixels", "shrink it")
            return _of_8_bits(ImageOps.exif_transpose(picture)).convert(mode)
    except UnidentifiedImageError as error:
        raise DecodeError(file, "not a picture of an accepted format", "copy it again") from error
    except READ_ERRORS as error:
        raise DecodeError(file, explain(file, error)[0], "copy it again") from error


def _of_8_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip instead of scale
        return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return picture


def _frames(folder: Path, names: Sequence[str]) -> Series:
    """The largest series of pictures that are not of optical flow; DecodeError for a folder of flow alone."""
    flow = flow_names(folder)
    frames = largest_series(folder, [name for name in names if name not in flow])
    if flow and not frames:
        hint = "a model with modality=flow reads it; for others give a video or its frames"
        raise DecodeError(folder, "holds optical flow and no frames", hint)
    return frames
