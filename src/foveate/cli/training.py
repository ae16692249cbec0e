"""Verbs that train: on anyone's list, and the demo that shows the whole road on made videos."""

from __future__ import annotations

import json as json_module
import time
from pathlib import Path

import tyro

from foveate.cli.show import console, print_json, print_table
from foveate.train.classifier import TrainJob, train_classifier


def train(job: tyro.conf.OmitArgPrefixes[TrainJob], json: bool = False) -> int:
    """Train or fine-tune a classifier on a list of videos or a folder with one sub-folder a class.

    Args:
        job: What is trained, on what, and where it goes.
        json: Print one JSON object with the last scores.
    """
    start = time.perf_counter()
    _, outcome = train_classifier(job)
    seconds = time.perf_counter() - start
    report = {
        "run": str(job.out),
        "steps": outcome.steps,
        "seconds": seconds,
        "best": outcome.best,
        **outcome.scores,
    }
    if json:
        print_json(report)
    else:
        rows = [(key, value) for key, value in report.items() if value is not None]
        print_table("Trained", ("what", "value#"), rows)
        console.print(f"the model: {job.out / 'best.safetensors'}", markup=False)
    return 0
