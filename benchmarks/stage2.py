"""Stage 2 of AdaFocus by `foveate train`: clips a second, read anew in every epoch and from kept features."""

from __future__ import annotations

import json
import os
import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.record import WORK, Spread, Table, Value, in_turns, ratio, seconds
from foveate.data.synthetic import make_figures
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.recipes.adafocus import SMALL_ADAFOCUS, AdaFocusPlan
from foveate.train.stages import train_model

MODEL = "adafocus_small"
VIDEOS = 48
BATCH = 16
EPOCHS = 50  # the default, and the paper's
REPEATS = 2
WAYS = {"read anew": 0, "kept": 1}  # kept_views

Speeds = dict[str, float]


def run() -> Table:
    """The whole stage both ways, in turns."""
    videos = make_figures(WORK / "figures", train=VIDEOS, val=0)["train"]
    found = in_turns({name: partial(stage2, videos, views) for name, views in WAYS.items()}, REPEATS)
    rows = []
    for name, own in found.items():
        row: dict[str, Value] = {"features": name}
        row["fill"] = Spread.of([each["fill"] for each in own])
        for key in ("epoch", "whole"):
            speeds, plain = [each[key] for each in own], [each[key] for each in found["read anew"]]
            row[key] = Spread.of(speeds)
            row[f"{key}_ratio"] = ratio(speeds, plain)
        rows.append(row)
    about = (
        f"Stage 2 of {MODEL}, from the networks of the package, as `foveate train` runs it: {EPOCHS} epochs "
        f"over {VIDEOS} made H.264 videos of 320x240 and 48 frames, batches of {BATCH}, default workers. "
        "Kept: what the frozen networks find in one draw of every video, at all positions of the grid "
        "(`--kept-views 1`). The epoch is the median one, with its waiting for data; the whole is everything "
        "from the list to the last checkpoint, filling included. "
        f"Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "features": "features",
        "fill": "filling, s",
        "epoch": "an epoch, clips a second",
        "epoch_ratio": "times as many",
        "whole": "the whole, clips a second",
        "whole_ratio": "times as many as a whole",
    }
    return Table(about, columns, rows)


def stage2(videos: Path, kept_views: int) -> Speeds:
    """Clips a second of the median epoch and of the whole run, and seconds of filling."""
    plan = AdaFocusPlan(
        glance_epochs=0,
        local_epochs=0,
        patch_epochs=0,
        policy_epochs=EPOCHS,
        tune_epochs=0,
        kept_views=kept_views,
    )
    with TemporaryDirectory() as folder:
        job = TrainJob(
            videos,
            Path(folder) / "run",
            MODEL,
            weights="figures",
            train=TrainConfig(batch=BATCH),
            augment=SMALL_ADAFOCUS.augment,
            plan=plan,
        )
        spent = seconds(partial(train_model, job))
        lines = (job.out / "stage2" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    epochs = [record for record in records if record["kind"] == "epoch"]
    return {
        "fill": sum(record["seconds"] for record in records if record["kind"] == "before"),
        "epoch": statistics.median(record["samples_per_s"] for record in epochs),
        "whole": sum(record["samples"] for record in epochs) / spent,
    }
