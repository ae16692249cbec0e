"""Fine-tuning from images: what the temporal shift adds when a network has never seen a video.

TSM (Lin et al., ICCV 2019) takes a network trained on still images, lets its frames exchange a quarter of
their channels at no cost, and learns motion in a few epochs. The plain network on the same frames, TSN, is
the contrast: whatever order the frames come in, its answer is the same.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.runner import Column, Experiment, Numbers
from foveate.data.cache import cache_videos
from foveate.data.lists import VideoList, read_list
from foveate.data.made import FiguresConfig, make_figures
from foveate.measure.cost import count_macs, measure_latency
from foveate.models.base import VideoModel
from foveate.train.classifier import TrainJob, judge_list, train_classifier
from foveate.train.config import TrainConfig
from foveate.video.transform import Augment

DATA = Path("work/finetune")
VIDEOS = {"train": 600, "test": 400}
SHORT_SIDE = 128  # pixels of the small copies
FIGURES = FiguresConfig(frames=24, fps=8)
MODEL = ("size=112", "resize=128", "pool=max")  # an average over space drowns a person of 4 % of the frame
AUGMENT = Augment(crop="center")  # which never cuts the person
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


def prepare() -> dict[str, VideoList]:
    """Small copies of the made videos, by split; made once and kept in `work/`."""
    lists = make_figures(DATA / "figures", VIDEOS["train"], 0, VIDEOS["test"], seed=0, config=FIGURES)
    return {
        split: cache_videos(read_list(path), DATA / split, SHORT_SIDE, workers=2)
        for split, path in lists.items()
    }


def run(variant: str, seed: int) -> Numbers:
    """Fine-tune the model of that name on the training list and measure it on the test list."""
    data = prepare()
    run_folder = EXPERIMENT.scratch(variant, seed) / "run"
    job = TrainJob(
        videos=DATA / "train" / "list.jsonl",
        out=run_folder,
        model=variant,
        weights="imagenet",
        settings=MODEL,
        workers=1,
        resume=(run_folder / "config.yaml").exists(),
        train=TrainConfig(**(asdict(TRAIN) | {"seed": seed})),
        augment=AUGMENT,
    )
    model, _ = train_classifier(job)
    epochs = _epochs(run_folder / "metrics.jsonl")
    return {
        "top1": judge_list(model, data["test"], workers=1)["top1"],
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


EXPERIMENT = Experiment(
    name="finetune",
    claim="An image network learns to recognise movement in a few epochs once its frames exchange channels "
    "(TSM), at the same cost as without the exchange (TSN). Both start from the same ImageNet weights.",
    variants=("tsn_lite0_8", "tsm_lite0_8"),
    columns=(
        Column("top1", "test top-1, %", 100),
        Column("train_top1", "top-1 while training, last epoch, %", 100),
        Column("gmacs", "GMACs a video", digits=3),
        Column("video_s", "seconds a video", digits=3),
        Column("train_s", "seconds of training", digits=0),
    ),
    run=run,
    settings={
        "videos": VIDEOS,
        "figures": asdict(FIGURES),
        "short_side": SHORT_SIDE,
        "model": list(MODEL),
        "augment": asdict(AUGMENT),
        "train": asdict(TRAIN),
    },
)
