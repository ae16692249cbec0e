"""The verb that writes a model as files for other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from foveate.choices import ExportTarget
from foveate.cli.inputs import resize_input, source_of, videos_of
from foveate.cli.show import plain, print_json, print_line, say
from foveate.errors import ModelFileError, OutputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.base import VideoModel

MOST = 16  # videos of --videos that are compared
VIEWS = 3  # clips of noise, if there are no videos


def export(
    model: tyro.conf.Positional[str],
    to: ExportTarget,
    out: Path | None = None,
    weights: str | None = None,
    check: bool = False,
    videos: Path | None = None,
    size: int | None = None,
    json: bool = False,
) -> int:
    """Write a model as files that run without this package.

    With --check the exit code is 4 if their answers are further from the model's than rounding explains.

    Args:
        model: A model file, such as best.safetensors of a run, or a name with published weights.
        to: onnx for ONNX Runtime and many others, openvino, or torch (a program of torch.export).
        out: The folder to write into, made if it is not there; MODEL-TO if not given.
        weights: Of a name: what it was trained on, such as kinetics400; downloaded once.
        check: Run the files in a process without this package, and compare answers and speed.
        videos: A list or folder of videos to compare on, the first 16; noise if not given.
        size: Side of the frames in pixels; the model's own if not given.
        json: Print one JSON object.
    """
    from foveate.export.check import check_export
    from foveate.export.write import demand_packages, export_model
    from foveate.infer.choice import a_clip
    from foveate.weights.load import trained_model

    if videos is not None and not check:
        raise UsageError("--videos", "are for comparing", "add --check")
    if check and to == "onnx":
        demand_packages(to, ("onnxruntime",))
    net = trained_model(model, weights)
    resize_input(net, size, None)
    folder = out or Path(f"{net.name}-{to}")
    if folder.exists() and not folder.is_dir():
        raise OutputError(folder, "is a file", "name a folder")
    card = export_model(net, to, folder)
    report: dict[str, object] = {"card": str(card), "model": net.name, "to": to}
    differs = False
    if check:
        clips = [*a_clip(net, VIEWS)] if videos is None else _clips_of(videos, net)
        found = check_export(net, card, clips)
        report |= asdict(found)
        differs = not found.agrees
    if json:
        print_json(report)
    else:
        _print(report)
    if differs:
        say(f"error: {plain(str(card))}: answers differ from the model's")
    return ModelFileError.exit_code if differs else 0


def _clips_of(videos: Path, net: VideoModel) -> list[Tensor]:
    """A clip (T, S, S, 3), uint8, of each of the first videos; DataError for one that cannot be read."""
    from foveate.infer.read import ClipReader

    reader = ClipReader(net.spec, window=0)
    return [reader.read(source_of(entry)).frames[0][0] for entry in videos_of([videos])[:MOST]]


def _print(report: dict[str, object]) -> None:
    print_line(f"{report['card']}: {report['model']} for {report['to']}")
    if "error" in report:
        print_line(f"largest difference  {report['error']:.1e} of the largest logit, {report['clips']} clips")
        print_line(f"same label          {report['same']:.1%}")
        print_line(f"size                {report['megabytes']:.1f} MB")
        print_line(f"one clip            {report['ms']:.1f} ms, eager PyTorch {report['eager_ms']:.1f} ms")
