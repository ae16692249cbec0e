"""Verbs that use a trained model: name what videos show, and score it on a list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import tyro

from foveate.cli.show import console, print_json, print_table, say
from foveate.data.lists import Format, read_list
from foveate.errors import DataError, UsageError
from foveate.infer.predict import Predictor
from foveate.infer.result import Prediction
from foveate.measure.cost import count_macs
from foveate.train.classifier import judge_list
from foveate.train.evaluate import Average
from foveate.weights.file import read_model

VIDEO_ENDINGS = {
    ".mp4",
    ".avi",
    ".mkv",
    ".webm",
    ".mov",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".gif",
    ".wmv",
    ".flv",
    ".npy",
}
LIST_ENDINGS = {".txt", ".csv", ".json", ".jsonl"}


def predict(
    videos: tyro.conf.Positional[list[Path]],
    model: str,
    top: int = 5,
    clips: int = 1,
    crops: int = 1,
    window: float | None = None,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Name what videos show: labels with scores, and labels over time for long videos.

    Args:
        videos: Video files, folders of them, folders of numbered images, or lists.
        model: A model file.
        top: How many classes to name.
        clips: Clips over time a window, averaged.
        crops: 1 (centre) or 3 (left, centre, right) crops a clip, averaged.
        window: Seconds for one label over time; 0 takes each video as one. Videos over 20 s get 5 s windows.
        device: cpu or cuda.
        json: Print one JSON object a video, nothing else.
    """
    predictor = Predictor(model, top, clips, crops, window, device)
    refused = 0
    for result in predictor.predict_all(_all_videos(videos)):
        refused += result.status == "refused"
        if json:
            print_json(result.to_dict())
        else:
            _print_prediction(result)
    return DataError.exit_code if refused else 0


def evaluate(
    videos: tyro.conf.Positional[Path],
    model: Path,
    clips: int = 1,
    crops: int = 1,
    average: Average = "logits",
    batch: int = 16,
    workers: int = 2,
    format: Format = "auto",
    root: Path | None = None,
    template: str | None = None,
    split: str | None = None,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Score a model on a list by a protocol of clips x crops; cost beside accuracy.

    Args:
        videos: The list, or a folder with one sub-folder a class.
        model: A model file.
        clips: Clips over time a video.
        crops: 1 (centre) or 3 crops a clip.
        average: What is averaged over the views.
        batch: Videos at once.
        workers: Processes that decode.
        format: Of the list.
        root: Folder that its paths start from.
        template: Names of extracted frames, such as img_{:05d}.jpg.
        split: Of a format that has several.
        device: cpu or cuda.
        json: Print one JSON object.
    """
    net, card = read_model(model)
    listed = read_list(videos, format, root, card.labels or None, template, split)
    if listed.num_classes != net.num_classes:
        cause = f"{listed.num_classes} classes, the model has {net.num_classes}"
        raise UsageError(videos, cause, "was the model trained on these classes?")
    scores = judge_list(net.to(device), listed, clips, crops, batch, workers, average=average)
    spec = net.spec
    macs = count_macs(net, torch.zeros(1, 3, spec.frames, spec.size, spec.size, device=device)).total / 1e9
    report = {"videos": str(videos), "model": str(model), "views": f"{clips}x{crops}", **scores}
    report |= {"gmacs_per_view": macs, "gmacs_per_video": macs * clips * crops}
    if json:
        print_json(report)
    else:
        print_table("Evaluation", ("what", "value#"), report.items())
    return DataError.exit_code if scores["n_ok"] < scores["n_total"] else 0


def videos_below(folder: Path) -> list[Path]:
    """The video files in a folder and its sub-folders; the folder itself if it holds images instead."""
    files = sorted(child for child in folder.rglob("*") if child.suffix.lower() in VIDEO_ENDINGS)
    return files or [folder]


def _all_videos(paths: list[Path]) -> Iterator[Path]:
    """Every video that the paths name: themselves, those in folders, and the entries of lists."""
    for path in paths:
        if path.is_dir():
            yield from videos_below(path)
        elif path.suffix.lower() in LIST_ENDINGS:
            yield from (Path(entry.path) for entry in read_list(path).entries)
        else:
            yield path


def _print_prediction(result: Prediction) -> None:
    name = result.to_dict()["video"]
    if result.status == "refused":
        say(f"error: {name}: {result.cause}")
        return
    if result.status == "partial":
        say(f"warning: {name}: {result.cause}")
    rows = [(g.rank, g.label, f"{g.score:.1%}") for g in result.predictions]
    print_table(f"{name}  ({result.duration_s:.1f} s)", ("", "label", "score#"), rows)
    if len(result.segments) > 1:
        spans = [(f"{s.start_s:.1f} - {s.end_s:.1f} s", s.label, f"{s.score:.1%}") for s in result.segments]
        print_table("over time", ("when", "label", "score#"), spans)
    spent, took = result.cost, result.timing_ms
    console.print(
        f"{spent.gmacs:.2f} GMACs, {spent.frames_used} frames used of {spent.frames_decoded} decoded; "
        f"decode {took['decode']:.0f} ms, transform {took['transform']:.0f} ms, model {took['model']:.0f} ms",
        markup=False,
        highlight=False,
    )
