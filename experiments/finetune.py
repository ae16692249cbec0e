"""Fine-tuning from still images: what the temporal shift adds, and what it need not.

TSM (Lin et al., ICCV 2019) takes a network trained on images and lets its frames exchange a quarter of their
channels at no cost. The plain network on the same frames, TSN, gives the same answer for any order of the
frames. So there are two tasks: actions of a small figure, which single poses nearly give away, and the
direction in which a digit moves, which no set of frames without an order can tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from experiments.runner import Column, Experiment, Numbers
from foveate.data.cache import cache_videos
from foveate.data.lists import VideoList, read_list
from foveate.data.synthetic import FiguresConfig, Move4MnistConfig, make_figures, make_move4mnist
from foveate.infer.engine import EagerEngine
from foveate.measure.cost import count_macs, measure_latency
from foveate.models.base import VideoModel
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob, evaluate_list
from foveate.train.stages import train_model
from foveate.video.transform import Augment

DATA = Path("work/finetune")
SHORT_SIDE = 128  # pixels of the small copies; what is smaller stays as it is


@dataclass(frozen=True)
class Task:
    """Videos to make, and how a model sees them. make: of `foveate.data.synthetic`; train, test: videos."""

    make: Callable[..., dict[str, Path]]
    config: FiguresConfig | Move4MnistConfig
    train: int
    test: int
    model: tuple[str, ...]  # settings
    augment: Augment


# An average over space drowns a person of 4 % of the frame, hence the maximum; the centre crop never cuts it.
TASKS = {
    "action": Task(
        make_figures,
        FiguresConfig(frames=24, fps=8),
        train=600,
        test=400,
        model=("size=112", "resize=128", "pool=max"),
        augment=Augment(crop="center"),
    ),
    "direction": Task(
        make_move4mnist,
        Move4MnistConfig(canvas=96, movers=0.9, step=1.5, still="anywhere"),
        train=400,
        test=400,
        model=("size=96", "resize=96", "pool=max"),
        augment=Augment(crop="center", flip=False),
    ),
}
TRAIN = TrainConfig(
    epochs=4,
    batch=8,
    optimizer="adamw",
    rate=5e-4,
    reference_batch=None,
    weight_decay=0.02,
    groups="no_norm_bias_decay",
    warmup_epochs=0.5,
)


def prepare(name: str) -> dict[str, VideoList]:
    """Small copies of the made videos of a task, by split; made once and kept in `work/`."""
    task, folder = TASKS[name], DATA / name
    lists = task.make(folder / "videos", task.train, 0, task.test, seed=0, config=task.config)
    return {
        split: cache_videos(read_list(path), folder / split, SHORT_SIDE, workers=2)
        for split, path in lists.items()
    }


def run(variant: str, seed: int) -> Numbers:
    """Fine-tune a model on a task, as in "action-tsm_lite0_8", and measure it on the test list."""
    task, model_name = variant.split("-")
    data = prepare(task)
    run_folder = EXPERIMENT.scratch(variant, seed) / "run"
    job = TrainJob(
        videos=DATA / task / "train" / "list.jsonl",
        out=run_folder,
        model=model_name,
        weights="imagenet",
        settings=TASKS[task].model,
        workers=1,
        resume=(run_folder / "config.yaml").exists(),
        train=replace(TRAIN, seed=seed),
        augment=TASKS[task].augment,
    )
    model, _ = train_model(job)
    epochs = _epochs(run_folder / "metrics.jsonl")
    return {
        "top1": evaluate_list(EagerEngine(model), data["test"], workers=1).measures["top1"],
        "train_top1": epochs[-1]["top1"],
        "train_s": sum(epoch["seconds"] for epoch in epochs),
        **cost(model),
    }


def cost(model: VideoModel) -> Numbers:
    """Multiply-adds and seconds of the model for one clip; decoding is not in it."""
    spec = model.spec
    clip = torch.zeros(1, 3, spec.frames, spec.size, spec.size)
    with torch.inference_mode():
        latency = measure_latency(lambda: model(clip))
    return {"gmacs": count_macs(model, clip).total / 1e9, "video_s": latency.median / 1000}


def _epochs(metrics: Path) -> list[dict[str, Any]]:
    records = map(json.loads, metrics.read_text().splitlines())
    return [record for record in records if record["kind"] == "epoch"]


def _settings(task: Task) -> dict[str, Any]:
    return asdict(task) | {"make": task.make.__name__}


EXPERIMENT = Experiment(
    name="finetune",
    claim="Fine-tuned from ImageNet for a few epochs, a network whose frames exchange channels (TSM) sees "
    "their order, and one whose frames do not (TSN) cannot, for the same number of multiply-adds.",
    variants=tuple(f"{task}-{model}" for task in TASKS for model in ("tsn_lite0_8", "tsm_lite0_8")),
    columns=(
        Column("top1", "test top-1, %", 100),
        Column("train_top1", "top-1 while training, last epoch, %", 100),
        Column("gmacs", "GMACs a video", digits=3),
        Column("video_s", "seconds a video", digits=3),
        Column("train_s", "seconds of training", digits=0),
    ),
    run=run,
    settings={
        "tasks": {name: _settings(task) for name, task in TASKS.items()},
        "short_side": SHORT_SIDE,
        "train": asdict(TRAIN),
    },
)
