"""Pictures of where a model looked: a video with the patch on every frame, and a contact sheet."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from foveate.errors import DataError, OutputError
from foveate.infer.looks import Look
from foveate.infer.result import Prediction
from foveate.report.sheet import CELL, caption, left_out, thinned, write_pictures
from foveate.video import open_video
from foveate.whole import replacing

GREEN, GREY = (60, 230, 90), (150, 150, 150)
TALLEST = 720  # pixels of the overlay's height, for videos that are larger


def write_overlay(prediction: Prediction, out: Path, template: str | None = None) -> Path:
    """Write the video with the patch as a green box on every frame, grey and dashed where it was skipped.

    Between two frames that the model read, the box of the nearer one is shown. The label stands above.
    Returns the contact sheet written beside it, `out` with the ending .png. Raises DataError for a model that
    chooses no patches, OutputError where nothing can be written.
    """
    looks = prediction.looks
    if not looks:
        raise DataError(prediction.video, f"{prediction.model} chooses no patches: nothing to show")
    try:
        with replacing(out) as part:
            _encode(prediction, looks, part, template)
    except av.error.FFmpegError as error:
        cause = f"cannot be written: {error}"
        raise OutputError(out, cause, "is it an .mp4 in a folder of yours?") from error
    return write_sheet(prediction, out.with_suffix(".png"), template)


def _encode(prediction: Prediction, looks: Sequence[Look], out: Path, template: str | None) -> None:
    frames = [look.frame for look in looks]
    with open_video(prediction.video, template) as video, av.open(str(out), "w", format="mp4") as container:
        info = video.info
        scale = min(1.0, TALLEST / info.height)
        stream = container.add_stream("libx264", rate=Fraction(info.fps or 25).limit_denominator(1000))
        stream.width, stream.height = (
            2 * max(1, round(side * scale / 2)) for side in (info.width, info.height)
        )
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for number, (_, rgb) in enumerate(video.stream()):
            look = looks[_nearest(frames, number)]
            picture = _drawn(rgb, look, best_guess(prediction), stream.width, stream.height)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def write_sheet(prediction: Prediction, out: Path, template: str | None = None) -> Path:
    """Write a PNG of the frames that the model read, at most 40 of them, each with its patch."""
    pictures = []
    with open_video(prediction.video, template) as video:
        height = round(CELL * video.info.height / video.info.width)
        shown = thinned(prediction.looks)
        for look in shown:
            text = f"frame {look.frame}" + ("" if look.looked else ", skipped")
            pictures.append(_drawn(video.read([look.frame])[0], look, text, CELL, height))
    return write_pictures(pictures, out, left_out(len(shown), len(prediction.looks), "frames"))


def best_guess(prediction: Prediction) -> str:
    """The best class and its score."""
    best = prediction.predictions[0]
    return f"{best.label} {best.score:.0%}"


def _nearest(frames: Sequence[int], number: int) -> int:
    """Place of the frame nearest to `number`; frames ascend."""
    after = min(bisect_left(frames, number), len(frames) - 1)
    before = max(after - 1, 0)
    return before if number - frames[before] <= frames[after] - number else after


def _drawn(rgb: NDArray[np.uint8], look: Look, text: str, width: int, height: int) -> Image.Image:
    picture = Image.fromarray(rgb)
    scale = width / picture.width
    picture = picture.resize((width, height))
    draw = ImageDraw.Draw(picture)
    box = [round(edge * scale) for edge in look.box]
    if look.looked:
        draw.rectangle(box, outline=GREEN, width=max(2, width // 160))
    else:
        _dashed(draw, box, max(1, width // 320))
    return caption(picture, text)


def _dashed(draw: ImageDraw.ImageDraw, box: Sequence[int], width: int, dash: int = 6) -> None:
    left, top, right, bottom = box
    for x in range(left, right, 2 * dash):
        for y in (top, bottom):
            draw.line([(x, y), (min(x + dash, right), y)], fill=GREY, width=width)
    for y in range(top, bottom, 2 * dash):
        for x in (left, right):
            draw.line([(x, y), (x, min(y + dash, bottom))], fill=GREY, width=width)
