"""The library in one call: `foveate.predict("clip.mp4")`.

The parts that it is made of are public as well: `foveate.infer.predict.Predictor` names many videos with one
model, `foveate.infer.read.ClipReader` and `foveate.infer.engine` are its two halves.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from foveate.errors import DataError, UsageError
from foveate.infer.output import Prediction, csv_header
from foveate.infer.predict import Predictor
from foveate.io import atomic_write
from foveate.models import zoo
from foveate.models.base import VideoModel
from foveate.report.overlay import sheet_of, write_overlay, write_sheet
from foveate.weights.load import (
    default_model,
    known_weights,
    load_model,
    model_of,
    pretrained_weights,
)

QUALITY = 85  # of JPEG, in notebooks


@dataclass(frozen=True)
class Result(Prediction):
    """A prediction that can show and save itself. source: what was predicted, to draw from."""

    source: Any = field(default=None, repr=False, compare=False)

    def to_csv(self) -> str:
        """Two lines of comma-separated values: names of columns, and this result."""
        text, top = io.StringIO(), len(self.predictions)
        csv.writer(text, lineterminator="\n").writerows([csv_header(top), self.csv_row(top)])
        return text.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write `.json`, `.csv`, a contact sheet (`.png`) or the video with its answers drawn (`.mp4`).

        UsageError for another ending, OutputError where nothing can be written.
        """
        path = Path(path)
        if path.suffix == ".png":
            return write_sheet(self, path, source=self.source)
        if path.suffix == ".mp4":
            write_overlay(self, path, source=self.source)
            return path
        if path.suffix not in (".json", ".csv"):
            raise UsageError(path, "does not end in .json, .csv, .png or .mp4", "choose one of these")
        text = (
            self.to_csv()
            if path.suffix == ".csv"
            else json.dumps(self.to_dict(choices=True), indent=1) + "\n"
        )
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")
        return path

    def show(self) -> None:
        """In a notebook, the table of scores and a contact sheet; elsewhere the table as text."""
        try:
            from IPython import get_ipython
            from IPython.display import HTML, display
        except ImportError:
            get_ipython = None
        if get_ipython is None or get_ipython() is None:
            rows = [f"{each.score:7.1%}  {each.label}" for each in self.predictions]
            print("\n".join([self._title(), *rows]))  # noqa: T201 - what was asked for
        else:
            display(HTML(self._repr_html_()))

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        rows = "".join(
            f"<tr><td>{each.rank}</td><td style='text-align:left'>{html.escape(each.label)}</td>"
            f"<td>{each.score:.1%}</td></tr>"
            for each in self.predictions
        )
        head = "<th>rank</th><th style='text-align:left'>label</th><th>score</th>"
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        title = f"<div style='margin-bottom:0.5em'><b>{html.escape(self._title())}</b></div>"
        return f"<div>{title}{table}{self._picture()}</div>"

    def _title(self) -> str:
        trained = f", trained on {self.trained_on}" if self.trained_on else ""
        return f"{self.video} ({self.duration_s:.1f} s): {self.model}{trained}"

    def _picture(self) -> str:
        """The contact sheet as an image in HTML; nothing where the frames cannot be read again."""
        buffer = io.BytesIO()
        try:
            sheet = sheet_of(self, source=self.source)
        except (DataError, UsageError, OSError):
            return ""
        sheet.save(buffer, "JPEG", quality=QUALITY)  # a PNG is six times as large, in every notebook
        data = base64.b64encode(buffer.getvalue()).decode()
        alt = f"frames of {html.escape(self.video, quote=True)}"
        return f'<img alt="{alt}" style="max-width:100%" src="data:image/jpeg;base64,{data}">'


def predict(
    source: Any,
    model: VideoModel | str | Path | None = None,
    weights: str | None = None,
    *,
    top: int = 5,
    clips: int = 1,
    crops: int = 1,
    window: float | None = None,
    fps: float | None = None,
    device: str = "cpu",
) -> Result:
    """What one video shows: `foveate.predict("clip.mp4").label`.

    source: a path, a URL, bytes, a file object, frames in memory (uint8 (T, H, W, 3)) or an iterator of them.
    model: a model, a file of one, hf:user/name, or a name; None is X3D-S trained on Kinetics-400, downloaded
    once. weights: of a name, such as "kinetics400". top: classes to name. clips, crops: views whose logits
    are averaged. window: seconds for one label over time; None cuts videos longer than 20 s into windows of
    5 s. fps: frames a second of frames in memory. A video that cannot be used raises DataError.
    """
    net = default_model() if model is None else model_of(model, weights)
    prediction = Predictor(net, top, clips, crops, window, device).predict(source, fps)
    return Result(**vars(prediction), source=source)


def create_model(name: str, num_classes: int | None = None, pretrained: bool = False, **fields: Any) -> Any:
    """A model by name, as timm has it.

    num_classes: None keeps the model's own; 0 gives a module whose call returns pooled features (B, C).
    pretrained: with the first of the published weights that `foveate models` lists for it, and a new
    classifier if num_classes is another number than theirs; without, nothing is loaded. fields: fields of its
    configuration to change; an unknown one raises UsageError.
    """
    if pretrained:
        model = load_model(name, pretrained_weights(name), **fields)
        if num_classes and num_classes != model.num_classes:
            model.reset_head(num_classes)
            model.labels, model.curve = (), None
    else:
        model = zoo.create_model(name, num_classes or None, **fields)
    return FeatureExtractor(model) if num_classes == 0 else model


class FeatureExtractor(nn.Module):
    """A model whose call returns what its classifier reads, (B, C)."""

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = model
        self.spec = model.spec

    def forward(self, clip: Any) -> Tensor:
        """clip: as `VideoModel.prepare` makes it. Returns features (B, C)."""
        return self.model.features(clip)


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Names that fit a shell pattern or begin so, sorted. pretrained: only those with weights by name."""
    return [name for name in zoo.list_models(pattern) if not pretrained or known_weights(name)]
