"""A contact sheet of the clusters of a full-video model: one picture for each stretch taken as one."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from foveate.errors import DataError
from foveate.infer.result import Prediction
from foveate.report.sheet import CELL, caption, left_out, thinned, write_pictures
from foveate.video import open_video


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
    return write_pictures(pictures, out, left_out(len(shown), len(prediction.clusters), "clusters"))
