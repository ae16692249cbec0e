"""Verbs that use a trained model: name what videos show, and score it on a list."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import tyro

from foveate.cli.show import console, print_json, print_table, say
from foveate.data.lists import read_list
from foveate.errors import DataError
from foveate.infer.predict import Predictor
from foveate.infer.result import Prediction

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


def _all_videos(paths: list[Path]) -> Iterator[Path]:
    """Every video that the paths name: themselves, those in folders, and the entries of lists."""
    for path in paths:
        if path.is_dir():
            files = sorted(child for child in path.rglob("*") if child.suffix.lower() in VIDEO_ENDINGS)
            yield from files or [path]  # a folder of images is one video
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
