"""How long a model in training waits for its data: from H.264 files and from small copies, by workers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import WORK, Spread, Table, Value, in_turns, seconds
from foveate.data.cache import cache_videos
from foveate.data.dataset import VideoDataset, make_loader
from foveate.data.lists import read_list
from foveate.data.synthetic import make_figures
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob, parse_settings
from foveate.train.stages import train_model
from foveate.video.transform import Augment

MODELS = {
    "tsm_r10_8": ("width=0.25", "size=80", "resize=80"),  # 0.2 GMACs: a heavier model waits for less
}
WORKERS = (0, 1, 2)
VIDEOS = 96
BATCH = 8
REPEATS = 3


def run() -> Table:
    """An epoch for every model, source and number of workers, and the loader without a model."""
    lists = sources()
    rows = []
    for model in MODELS:
        cells = [(source, workers) for source in lists for workers in WORKERS]
        trained = in_turns({f"{s} {w}": partial(epoch, model, lists[s], w) for s, w in cells}, REPEATS)
        alone = in_turns({f"{s} {w}": partial(drain, model, lists[s], w) for s, w in cells}, REPEATS)
        for source, workers in cells:
            key = f"{source} {workers}"
            row: dict[str, Value] = {"model": model, "source": source, "workers": workers}
            row["wait"] = Spread.of([100 * record["data_wait_share"] for record in trained[key]])
            row["speed"] = Spread.of([record["samples_per_s"] for record in trained[key]])
            row["alone"] = Spread.of([VIDEOS / time for time in alone[key]])
            rows.append(row)
    names = ", ".join(f"{name} with {' '.join(settings)}" for name, settings in MODELS.items())
    about = (
        f"Training epochs over {VIDEOS} made videos of 320x240 and 48 frames, batches of {BATCH}, and the "
        "share of the time in which the model waits for data. Source: H.264 files, or their small copies of "
        f"128 pixels (`foveate data cache`). {names}. A share near 0 does not mean that decoding is free: on "
        "few cores its processes slow the training down. Compare clips a second. Starting the workers is in "
        "the share; an epoch of real length hides that."
    )
    columns = {
        "model": "model",
        "source": "source",
        "workers": "workers",
        "wait": "waits for data, % of the time",
        "speed": "clips a second in training",
        "alone": "clips a second, loader alone",
    }
    return Table(about, columns, rows)


def sources() -> dict[str, Path]:
    """The list of the videos and the list of their small copies, made once."""
    videos = make_figures(WORK / "figures", train=VIDEOS, val=0)["train"]
    cache_videos(read_list(videos), WORK / "cache", short_side=128, workers=2)
    return {"H.264": videos, "cache": WORK / "cache" / "list.jsonl"}


def epoch(model: str, videos: Path, workers: int) -> dict[str, Any]:
    """Train for one epoch, as `foveate train` does, and return what its log says of it."""
    with TemporaryDirectory() as folder:
        run_folder = Path(folder) / "run"
        config = TrainConfig(epochs=1, batch=BATCH)
        settings = MODELS[model]
        job = TrainJob(videos, run_folder, model, settings=settings, workers=workers, train=config)
        train_model(job)
        return dict(json.loads((run_folder / "metrics.jsonl").read_text().splitlines()[-1]))


def drain(model: str, videos: Path, workers: int) -> float:
    """Seconds to load an epoch that nobody waits for."""
    listed = read_list(videos)
    spec = create_model(model, **parse_settings(MODELS[model])).spec
    data = VideoDataset(listed.entries, spec, listed.num_classes, augment=Augment())
    return seconds(lambda: [len(batch) for batch in make_loader(data, BATCH, 0, 0, True, workers)])
