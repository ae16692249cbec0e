"""Pictures of what a model saw and said: the video with a band of answers below it, and contact sheets.

On the picture, patches are green boxes, grey and dashed where one was skipped. A model that chooses
resolutions is shown what it saw: each frame at the size at which it was read, dark where it was skipped. In
sheets, the frames of a model with several pathways have a border in the colour of the slowest pathway that
read them.
Everything else is in the band (band.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from foveate.errors import DataError, OutputError
from foveate.infer.output import Cluster, Prediction
from foveate.io import atomic_write
from foveate.report.band import BLUE, GREEN, GREY, Band, Times
from foveate.report.sheet import (
    BLACK,
    CELL,
    COLUMNS,
    MOST,
    PLAIN,
    caption,
    left_out,
    make_sheet,
    thinned,
    write_sheet_file,
)
from foveate.video import Video, VideoInfo, open_video
from foveate.video.flow import as_pictures

WIDEST, TALLEST = 1280, 720  # pixels of the picture in an overlay
NARROWEST = 480  # pixels of an overlay's width, for the writing in it
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Mark:
    """What is drawn on a frame. text: on its picture in the sheet. state: in the band while it is shown.

    box: in pixels of the video, dashed if not `solid`. side: at which the frame was read, 0 if it was not.
    border: its colour, in the sheet.
    """

    frame: int
    text: str
    box: Box | None = None
    solid: bool = True
    side: int | None = None
    border: tuple[int, int, int] | None = None
    state: str = ""


def marks_of(prediction: Prediction, times: Times) -> list[Mark]:
    """What a prediction shows, in order of the frames; DataError if it says of no frame that it was read.

    times: of each frame of the video, in seconds.
    """
    if prediction.boxes:
        marks = [
            Mark(b.frame, _words(b.frame, "" if b.looked else "skipped"), b.box, b.looked)
            for b in prediction.boxes
        ]
        marks = [replace(m, state="patch read" if m.solid else "patch skipped") for m in marks]
    elif prediction.sizes:
        sizes = [(s, f"{s.size} px" if s.size else "skipped") for s in prediction.sizes]
        marks = [Mark(s.frame, _words(s.frame, text), side=s.size, state=text) for s, text in sizes]
    elif prediction.clusters:
        marks = [_middle(cluster, len(prediction.clusters), times) for cluster in prediction.clusters]
    elif prediction.pathways:
        # the last word on a frame has the pathway that reads the fewest
        readers = sorted(prediction.pathways.items(), key=lambda own: -len(own[1]))
        slowest = readers[-1][0]
        names = {frame: name for name, frames in readers for frame in frames}
        marks = [
            Mark(frame, _words(frame, name), border=GREEN if name == slowest else BLUE)
            for frame, name in names.items()
        ]
    else:
        marks = [Mark(frame, _words(frame)) for frame in prediction.frames]
    if not marks:
        raise DataError(prediction.video, f"{prediction.model} read none of its frames: nothing to show")
    return sorted(marks, key=lambda mark: mark.frame)


def _words(frame: int, *more: str) -> str:
    return ", ".join([f"frame {frame}", *filter(None, more)])


def _middle(cluster: Cluster, count: int, times: Times) -> Mark:
    """The frame that is shown in the middle of a cluster."""
    seconds = (cluster.start_s + cluster.end_s) / 2
    frame = max(int(np.searchsorted(times, seconds + 1e-9, side="right")) - 1, 0)
    text = f"{cluster.start_s:.2f} to {cluster.end_s:.2f} s, {cluster.frames} frames"
    return Mark(frame, text, state=f"cluster {cluster.cluster + 1} of {count}")


def write_overlay(prediction: Prediction, out: Path, template: str | None = None, source: Any = None) -> Path:
    """Write the video with what the model chose on every frame, and the band of answers below it.

    source: what was predicted, where it is no file of the name in the prediction.

    Between two frames that the model read, what was chosen for the nearer one is shown. Small videos are
    enlarged, large ones reduced. Returns the contact sheet written beside it, `out` with the ending .png.
    Raises DataError for a prediction that says of no frame that it was read, OutputError where nothing can be
    written.
    """
    try:
        with _open(prediction, template, source) as video, atomic_write(out) as part:
            _encode(prediction, marks_of(prediction, video.times), part, video)
    except av.error.FFmpegError as error:
        cause = f"cannot be written: {error}"
        raise OutputError(out, cause, "is it an .mp4 in a folder of yours?") from error
    return write_sheet(prediction, out.with_suffix(".png"), template, source)


def write_sheet(prediction: Prediction, out: Path, template: str | None = None, source: Any = None) -> Path:
    """Write a PNG: the band, and the frames that the model read, at most 40, with what it chose in each.

    Of a model that chose nothing in them, at most 12.
    """
    return write_sheet_file(sheet_of(prediction, template, source), out)


def write_clusters(prediction: Prediction, out: Path, template: str | None = None) -> Path:
    """Write a PNG: the band, and the middle frame of each cluster, with its seconds and number of frames.

    Of more than 40 clusters every k-th is shown, and a line above says so. Raises DataError for a prediction
    without clusters, OutputError where nothing can be written.
    """
    if not prediction.clusters:
        raise DataError(prediction.video, f"{prediction.model} makes no clusters: nothing to show")
    return write_sheet(prediction, out, template)


def sheet_of(prediction: Prediction, template: str | None = None, source: Any = None) -> Image.Image:
    """The frames that the model read, at most 40 of them, below the band. Arguments as of `write_overlay`."""
    pictures = []
    with _open(prediction, template, source) as video:
        marks, info = marks_of(prediction, video.times), video.info
        scale = min(CELL / info.width, TALLEST / info.height)
        size = max(1, round(info.width * scale)), max(1, round(info.height * scale))
        chosen = prediction.boxes or prediction.sizes or prediction.clusters or prediction.pathways
        most = MOST if chosen else PLAIN
        shown = thinned(marks, most)
        for mark in shown:
            cell = Image.new("RGB", (CELL, size[1]))
            cell.paste(drawn(video.read([mark.frame])[0], mark, "", *size), ((CELL - size[0]) // 2, 0))
            pictures.append(caption(cell, mark.text))
        band = Band(prediction, video.times, COLUMNS * CELL).whole()
    what = "clusters" if prediction.clusters and not prediction.boxes else "frames"
    return make_sheet(pictures, band, left_out(len(shown), len(marks), what, most))


def _open(prediction: Prediction, template: str | None, source: Any) -> Video:
    if source is None or isinstance(source, str | Path):
        return open_video(prediction.video, template)
    return open_video(
        source, fps=None if isinstance(source, bytes) or hasattr(source, "read") else prediction.fps
    )


def picture_size(info: VideoInfo) -> tuple[int, int]:
    """Width and height of a video's picture in its overlay; small ones are enlarged by a whole number."""
    times = min(-(-NARROWEST // info.width), max(1, TALLEST // info.height))
    scale = float(times) if times > 1 else min(1.0, WIDEST / info.width, TALLEST / info.height)
    width, height = (2 * max(1, round(side * scale / 2)) for side in (info.width, info.height))
    return width, height


def _encode(prediction: Prediction, marks: Sequence[Mark], out: Path, video: Video) -> None:
    frames = [mark.frame for mark in marks]
    width, height = picture_size(video.info)
    canvas = max(width, NARROWEST)  # of an upright or tiny video there is black beside the picture
    band = Band(prediction, video.times, canvas)
    with av.open(str(out), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(video.info.fps or 25).limit_denominator(1000))
        stream.width, stream.height = canvas, height + band.height
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for number, (seconds, rgb) in enumerate(video.stream()):
            mark = replace(marks[_nearest(frames, number)], border=None)
            picture = Image.new("RGB", (canvas, height + band.height))
            picture.paste(drawn(rgb, mark, "", width, height), ((canvas - width) // 2, 0))
            picture.paste(band.at(seconds, mark.state), (0, height))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def _nearest(frames: Sequence[int], number: int) -> int:
    """Place of the frame nearest to `number`; frames ascend."""
    after = min(bisect_left(frames, number), len(frames) - 1)
    before = max(after - 1, 0)
    return before if number - frames[before] <= frames[after] - number else after


def drawn(rgb: NDArray[np.uint8], mark: Mark, text: str, width: int, height: int) -> Image.Image:
    """A frame with its mark, `width` x `height` pixels, and the text in its corner if there is one."""
    picture = Image.fromarray(as_pictures(rgb))
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
    return caption(picture, text) if text else picture


def _dashed(draw: ImageDraw.ImageDraw, box: Sequence[int], width: int, dash: int = 6) -> None:
    left, top, right, bottom = box
    for x in range(left, right, 2 * dash):
        for y in (top, bottom):
            draw.line([(x, y), (min(x + dash, right), y)], fill=GREY, width=width)
    for y in range(top, bottom, 2 * dash):
        for x in (left, right):
            draw.line([(x, y), (x, min(y + dash, bottom))], fill=GREY, width=width)
