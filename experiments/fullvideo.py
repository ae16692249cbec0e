"""What clustering the frames of a video is worth, and what the clusters are worth beside seeing every frame.

After Liu et al. ("No Frame Left Behind", CVPR 2021). Move4MNIST is the paper's own test: a few uniform frames
against all of them, clustered. But even segments, averaged without looking, see every frame too; so a second
setting, bursts, has its motion in 8 of 128 frames, where it matters where the cuts fall. Noise and flashes
then show what breaks each rule, and what mends it (`floor`, `lasting`: additions of this library).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from experiments.fullvideo_data import STEPS, Batches, Burst, Move, Scene, Videos, draw, in_order
from experiments.runner import Column, Experiment, Numbers
from foveate.measure.cost import count_macs, peak_memory_mb
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.loop import fit
from foveate.train.objective import Classification
from foveate.train.run import Run
from foveate.video.transform import to_clip

Fields = dict[str, Any]
UNIFORM: Fields = {"train_mode": "uniform", "eval_mode": "uniform"}
ALL: Fields = {"train_mode": "all", "eval_mode": "all"}
RULES: dict[str, Fields] = {
    "uniform": UNIFORM,
    **{rule: {"rule": rule} for rule in ("even", "random", "slope", "cumulative")},
}
MOVE: Fields = {"size": 64, "resize": 64, "frames": 32}
BURST: Fields = {"size": 32, "resize": 32, "frames": 128, "stem": "small", "after": 0}


@dataclass(frozen=True)
class Setting:
    """Videos, how long to learn from them, and the models to compare by what differs in their settings."""

    scene: Scene
    epochs: int
    model: Fields
    variants: dict[str, Fields]
    train: int = 800  # videos
    val: int = 300


SETTINGS: dict[str, Setting] = {
    "move4mnist": Setting(
        Move(),
        4,
        MOVE,
        {name: RULES[name] for name in ("uniform", "even", "slope", "cumulative")} | {"all": ALL},
        train=1800,
        val=600,
    ),
    "burst": Setting(Burst(), 4, BURST, RULES),
    "burst_plain": Setting(Burst(textured=False), 5, BURST, RULES),
    "burst_noise2": Setting(
        Burst(noise=2),
        3,
        BURST,
        {
            "slope": RULES["slope"],
            "cumulative": RULES["cumulative"],
            "cumulative_floor": RULES["cumulative"] | {"floor": True},
        },
    ),
    "burst_plain_noise2": Setting(
        Burst(textured=False, noise=2),
        5,
        BURST,
        {name: RULES[name] for name in ("even", "slope", "cumulative")},
    ),
    "burst_flashes": Setting(
        Burst(flashes=4),
        3,
        BURST,
        {"slope": RULES["slope"], "slope_lasting": RULES["slope"] | {"lasting": True}},
    ),
}
TRAIN = TrainConfig(
    batch=16,
    optimizer="adamw",
    rate=5e-3,
    reference_batch=None,
    weight_decay=0.01,
    save_every=10**6,
    log_every=10**6,
)


def run(variant: str, seed: int) -> Numbers:
    """One cell, such as "burst-slope": train the model on videos drawn for the seed, then judge it."""
    setting = SETTINGS[variant.partition("-")[0]]
    videos = draw(setting.scene, seed, "train", setting.train)
    unseen = draw(setting.scene, seed, "val", setting.val)
    before = peak_memory_mb()
    model, seconds = trained(variant, seed, videos)
    grown = peak_memory_mb() - before
    clip = torch.zeros(1, 3, setting.model["frames"], setting.model["size"], setting.model["size"])
    return {
        "top1": judge(model, unseen),
        "mmacs": count_macs(model, clip).total / 1e6,
        "step_s": seconds / (setting.epochs * (setting.train // TRAIN.batch)),
        "memory": grown * 1e6 / 2**20,
    }


def trained(variant: str, seed: int, videos: Videos) -> tuple[VideoModel, float]:
    """The trained model of a cell, and the seconds that its steps took."""
    name, _, method = variant.partition("-")
    setting = SETTINGS[name]
    torch.manual_seed(seed)
    fields = setting.model | setting.variants[method]
    model = create_model("fullvideo_small", len(STEPS), dropout=0.0, **fields)
    epochs = setting.epochs
    config = replace(TRAIN, epochs=epochs, warmup_epochs=0.3 * epochs, seed=seed)
    data, folder = Batches(videos, config.batch, seed), EXPERIMENT.scratch(variant, seed) / "run"
    with Run(folder, config.identity(), resume=(folder / "config.yaml").exists()) as going:
        fit(model, data, Classification(model.spec), config, going, batches_per_epoch=len(data))
    return model.eval(), sum(epoch["seconds"] for epoch in _epochs(folder / "metrics.jsonl"))


@torch.inference_mode()
def judge(model: VideoModel, videos: Videos) -> float:
    """Share of videos named rightly."""
    right = 0
    for batch in in_order(videos):
        logits = model(to_clip(batch.frames[:, 0], model.spec))
        right += int((logits.argmax(1) == batch.labels).sum())
    return right / len(videos.labels)


def _epochs(metrics: Path) -> Sequence[dict[str, Any]]:
    records = map(json.loads, metrics.read_text().splitlines())
    return [record for record in records if record["kind"] == "epoch"]


def _plain(setting: Setting) -> dict[str, Any]:
    return asdict(setting) | {"scene": str(setting.scene)}


EXPERIMENT = Experiment(
    name="fullvideo",
    claim="A network that sees every frame early and clusters of them late names motions that a few uniform "
    "frames miss, for little more work. On Move4MNIST seeing every frame is what counts, and even segments "
    "do as well as clusters; in bursts it is where the cuts fall. Noise breaks the cumulative rule and "
    "flashes the slope; distances above a floor, and lasting ones, mend them.",
    variants=tuple(f"{name}-{method}" for name, setting in SETTINGS.items() for method in setting.variants),
    columns=(
        Column("top1", "validation top-1, %", 100),
        Column("mmacs", "MMACs a video"),
        Column("step_s", "seconds a step", digits=3),
        Column("memory", "peak memory growth, MiB", digits=0),
    ),
    run=run,
    settings={
        "settings": {name: _plain(setting) for name, setting in SETTINGS.items()},
        "train": TRAIN.identity(),
    },
)
