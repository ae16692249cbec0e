"""Pictures of what a model chose: the video with its choices drawn on every frame, and contact sheets.

Patches are green boxes, grey and dashed where one was skipped. A model that chooses resolutions is shown
what it saw: each frame at the size at which it was read, dark where it was skipped. Of a model with several
pathways, frames have a border in the colour of the slowest pathway that read them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from foveate.errors import DataError, OutputError
from foveate.infer.output import Prediction
from foveate.io import atomic_write
from foveate.report.sheet import BLACK, CELL, caption, left_out, make_sheet, thinned, write_sheet_file
from foveate.video import Video, open_video

GREEN, BLUE, GREY = (60, 230, 90), (80, 150, 255), (150, 150, 150)
TALLEST = 720  # pixels of the overlay's height, for videos that are larger
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Mark:
    """What is drawn on a frame. text: on its picture in the sheet.

    box: in pixels of the video, dashed if not `solid`. side: at which the frame was read, 0 if it was not.
    border: its colour.
    """

    frame: int
    text: str
    box: Box | None = None
    solid: bool = True
    side: int | None = None
    border: tuple[int, int, int] | None = None


def marks_of(prediction: Prediction) -> list[Mark]:
    """What a prediction shows, in order of the frames; DataError if its model chose nothing by frame."""
    if prediction.boxes:
        marks = [
            Mark(b.frame, f"frame {b.frame}" + ("" if b.looked else ", skipped"), b.box, b.looked)
            for b in prediction.boxes
        ]
    elif prediction.sizes:
        marks = [
            Mark(s.frame, f"frame {s.frame}, " + (f"{s.size} px" if s.size else "skipped"), side=s.size)
            for s in prediction.sizes
        ]
    elif prediction.pathways:
        # the last word on a frame has the pathway that reads the fewest
        readers = sorted(prediction.pathways.items(), key=lambda own: -len(own[1]))
        slowest = readers[-1][0]
        names = {frame: name for name, frames in readers for frame in frames}
        marks = [
            Mark(frame, f"frame {frame}, {name}", border=GREEN if name == slowest else BLUE)
            for frame, name in names.items()
        ]
    else:
        raise DataError(prediction.video, f"{prediction.model} chooses no patches: nothing to show")
    return sorted(marks, key=lambda mark: mark.frame)


def write_overlay(prediction: Prediction, out: Path, template: str | None = None, source: Any = None) -> Path:
    """Write the video with what the model chose on every frame, and the label above.

    source: what was predicted, where it is no file of the name in the prediction.

    Between two frames that the model read, what was chosen for the nearer one is shown. Returns the contact
    sheet written beside it, `out` with the ending .png. Raises DataError for a model that chooses nothing by
    frame, OutputError where nothing can be written.
    """
    marks = marks_of(prediction)
    try:
        with atomic_write(out) as part:
            _encode(prediction, marks, part, _open(prediction, template, source))
    except av.error.FFmpegError as error:
        cause = f"cannot be written: {error}"
        raise OutputError(out, cause, "is it an .mp4 in a folder of yours?") from error
    return write_sheet(prediction, out.with_suffix(".png"), template, source)


def write_sheet(prediction: Prediction, out: Path, template: str | None = None, source: Any = None) -> Path:
    """Write a PNG of the frames that the model read, at most 40 of them, with what it chose in each."""
    return write_sheet_file(sheet_of(prediction, marks_of(prediction), template, source), out)


def sheet_of(
    prediction: Prediction, marks: Sequence[Mark], template: str | None = None, source: Any = None
) -> Image.Image:
    """The frames of some marks, at most 40 of them, each as `Mark` says. Arguments as of `write_overlay`."""
    pictures = []
    with _open(prediction, template, source) as video:
        height = round(CELL * video.info.height / video.info.width)
        shown = thinned(marks)
        for mark in shown:
            pictures.append(drawn(video.read([mark.frame])[0], mark, mark.text, CELL, height))
    return make_sheet(pictures, left_out(len(shown), len(marks), "frames"))


def even_marks(prediction: Prediction, count: int) -> list[Mark]:
    """Frames evenly over the video, with their seconds: of a model that chooses nothing by frame."""
    frames = max(1, round(prediction.duration_s * prediction.fps))
    places = sorted({int((i + 0.5) * frames / count) for i in range(count)})
    return [Mark(place, f"{place / max(prediction.fps, 1e-9):.1f} s") for place in places]


def write_clusters(prediction: Prediction, out: Path, template: str | None = None) -> Path:
    """Write a PNG with the middle frame of each cluster, its seconds and how many frames it stands for.

    Of more than 40 clusters every k-th is shown, and a line above says so. Raises DataError for a prediction
    without clusters, OutputError where nothing can be written.
    """
    if not prediction.clusters:
        raise DataError(prediction.video, f"{prediction.model} makes no clusters: nothing to show")
    pictures = []
    with open_video(prediction.video, template) as video:
        height = round(CELL * video.info.height / video.info.width)
        shown = thinned(prediction.clusters)
        for cluster in shown:
            middle = Image.fromarray(video.at([(cluster.start_s + cluster.end_s) / 2])[0])
            text = f"{cluster.start_s:.2f} to {cluster.end_s:.2f} s, {cluster.frames} frames"
            pictures.append(caption(middle.resize((CELL, height)), text))
    note = left_out(len(shown), len(prediction.clusters), "clusters")
    return write_sheet_file(make_sheet(pictures, note), out)


def _open(prediction: Prediction, template: str | None, source: Any) -> Video:
    if source is None or isinstance(source, str | Path):
        return open_video(prediction.video, template)
    return open_video(
        source, fps=None if isinstance(source, bytes) or hasattr(source, "read") else prediction.fps
    )


def _encode(prediction: Prediction, marks: Sequence[Mark], out: Path, opened: Video) -> None:
    frames = [mark.frame for mark in marks]
    best = prediction.predictions[0]
    label = f"{best.label} {best.score:.0%}"
    with opened as video, av.open(str(out), "w", format="mp4") as container:
        info = video.info
        scale = min(1.0, TALLEST / info.height)
        stream = container.add_stream("libx264", rate=Fraction(info.fps or 25).limit_denominator(1000))
        stream.width, stream.height = (
            2 * max(1, round(side * scale / 2)) for side in (info.width, info.height)
        )
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for number, (_, rgb) in enumerate(video.stream()):
            mark = marks[_nearest(frames, number)]
            text = label if mark.side is None else f"{label}, {f'{mark.side} px' if mark.side else 'skipped'}"
            picture = drawn(rgb, mark, text, stream.width, stream.height)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def _nearest(frames: Sequence[int], number: int) -> int:
    """Place of the frame nearest to `number`; frames ascend."""
    after = min(bisect_left(frames, number), len(frames) - 1)
    before = max(after - 1, 0)
    return before if number - frames[before] <= frames[after] - number else after


def drawn(rgb: NDArray[np.uint8], mark: Mark, text: str, width: int, height: int) -> Image.Image:
    """A frame with its mark, `width` x `height` pixels, and the text in its corner."""
    picture = Image.fromarray(rgb)
    scale = width / picture.width
    if mark.side:  # as coarse as the network saw it
        short = mark.side / min(picture.size)
        coarse = picture.resize([max(1, round(side * short)) for side in picture.size])
        picture = coarse.resize((width, height), Image.Resampling.NEAREST)
    else:
        picture = picture.resize((width, height))
    if mark.side == 0:
        picture = ImageEnhance.Brightness(picture).enhance(0.35)
    draw = ImageDraw.Draw(picture)
    line = max(2, width // 160)
    if mark.border:
        draw.rectangle((0, 0, width - 1, height - 1), outline=mark.border, width=line)
    if mark.box:
        box = [round(edge * scale) for edge in mark.box]
        if mark.solid:
            draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline=BLACK, width=line + 2)
            draw.rectangle(box, outline=GREEN, width=line)
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
