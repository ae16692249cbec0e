"""A contact sheet of the clusters of a full-video model: one picture for each stretch taken as one."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from foveate.errors import DataError, OutputError
from foveate.infer.clusters import Cluster
from foveate.infer.result import Prediction
from foveate.video.decode import open_video

COLUMNS, CELL = 4, 320  # pictures in a row, pixels of their width
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def write_clusters(prediction: Prediction, out: Path, template: str | None = None) -> Path:
    """Write a PNG with the middle frame of each cluster, its seconds and how many frames it stands for.

    Raises DataError for a model that makes no clusters, OutputError where nothing can be written.
    """
    clusters = prediction.clusters
    if not clusters:
        raise DataError(prediction.video, f"{prediction.model} makes no clusters: nothing to show")
    with open_video(prediction.video, template) as video:
        height = round(CELL * video.info.height / video.info.width)
        sheet = Image.new("RGB", (COLUMNS * CELL, -(-len(clusters) // COLUMNS) * height))
        for number, cluster in enumerate(clusters):
            picture = Image.fromarray(video.at([(cluster.start_s + cluster.end_s) / 2])[0])
            labelled = _labelled(picture.resize((CELL, height)), cluster)
            sheet.paste(labelled, (number % COLUMNS * CELL, number // COLUMNS * height))
    part = out.with_name(f".{out.name}.part")
    try:
        sheet.save(part, "PNG")
        return part.replace(out)
    except OSError as error:
        raise OutputError(out, f"cannot be written: {error}", "is it a .png in a folder of yours?") from error
    finally:
        part.unlink(missing_ok=True)


def _labelled(picture: Image.Image, cluster: Cluster) -> Image.Image:
    text = f"{cluster.start_s:.2f} to {cluster.end_s:.2f} s, {cluster.frames} frames"
    font = ImageFont.load_default(size=max(12, picture.height // 14))
    draw = ImageDraw.Draw(picture)
    draw.text((6, 4), text, WHITE, font=font, stroke_width=2, stroke_fill=BLACK)
    return picture
