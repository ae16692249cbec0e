"""The verb that trains, and the file that can hold its options."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import replace
from pathlib import Path

import tyro

from foveate.cli.inputs import demand, device_named
from foveate.cli.show import print_json, print_line, print_table, readable
from foveate.config import from_dict, read_yaml
from foveate.train.classifier import TrainJob
from foveate.train.stages import train_model


def train(job: tyro.conf.OmitArgPrefixes[TrainJob], config: Path | None = None, json: bool = False) -> int:
    """Train or fine-tune a classifier on a list of videos or a folder with one sub-folder a class.

    Args:
        job: What is trained, on what, and where it goes.
        config: YAML file of these options, such as config.yaml of a run; options given here override it.
        json: Print one JSON object with the last scores.
    """
    demand(1, clips=job.clips, crops=job.crops)
    demand(0, workers=job.workers)
    device_named(job.device)
    start = time.perf_counter()
    _, outcome = train_model(job)
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return 0
    best = job.out / "best.safetensors"
    report = {"model": str(best), "steps": outcome.steps, "seconds": time.perf_counter() - start}
    report |= {"best": outcome.best, **readable(outcome.scores)}
    if json:
        print_json(report)
    else:
        print_table(("measure", "value"), [row for row in report.items() if row[1] is not None])
        print_line(f"Use it: foveate predict VIDEO --model {shlex.quote(str(best))}")
    return 0


def read_job(path: Path) -> TrainJob:
    """The job in a YAML file; where and on what, if it does not say, is asked of the command line."""
    given = read_yaml(path)
    asked = {name: tyro.MISSING for name in ("videos", "out") if name not in given}
    return replace(from_dict(TrainJob, {"videos": "", "out": ""} | given, path), **asked)
