"""What more frames are worth: bLVNet-TAM reading 4, 8 and 16 pairs of frames of the same videos.

After Fan et al. ("More Is Less", NeurIPS 2019): twice the frames cost twice the work and are worth it, at two
depths, because the aggregation over time relates them. As there, a longer input starts from the model of the
next shorter one. The figures here repeat their movement so quickly that 8 frames of a video miss much of it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.clips import Arrays, Batches, Split, drawn, in_order
from experiments.runner import Column, Experiment, Numbers
from foveate.data.made import FiguresConfig, render_clip
from foveate.measure.cost import count_macs
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.loop import fit
from foveate.train.objective import Classification
from foveate.train.run import Run
from foveate.video.transform import to_clip

WORK = Path(__file__).parents[1] / "work" / "blvnet"
SIDE, FRAMES = 64, 32
COUNTS = {"train": 480, "test": 320}
ACTIONS = ("walk", "run", "jump", "wave", "clap", "squat", "kick", "bow")
CONFIG = FiguresConfig(actions=ACTIONS, stature=(0.55, 0.7), cycles=(4.0, 7.0), clutter=(3, 5))
EPOCHS = {4: 12, 8: 3, 16: 2}  # by pairs; the longer ones start from the next shorter
RATES = {4: 2e-3, 8: 5e-4, 16: 5e-4}
TRAIN = TrainConfig(
    batch=16,
    optimizer="adamw",
    reference_batch=None,
    weight_decay=0.02,
    groups="no_norm_bias_decay",
    warmup_epochs=0.5,
    save_every=10**6,
    log_every=30,
)


def load_split(name: str, pairs: int) -> Split:
    """Clips of a split with `pairs` pairs of frames, spread over the whole; drawn at the first call."""
    arrays = drawn(WORK / name, partial(draw, list(COUNTS).index(name)), COUNTS[name])
    step = FRAMES // (2 * pairs)
    return Split(arrays["frames"][:, step // 2 :: step], torch.arange(COUNTS[name]) % len(ACTIONS))


def draw(split: int, index: int) -> Arrays:
    clip = render_clip(CONFIG, (split, index), (SIDE, SIDE), FRAMES, index % len(ACTIONS))
    return {"frames": clip.frames}


def trained(depth: int, pairs: int, temporal: str, seed: int) -> VideoModel:
    """The model of a cell; what shorter cells of the seed have trained is taken over."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"depth": depth, "frames": 2 * pairs, "temporal": temporal, "dropout": 0.3}
    model = create_model("blvnet_small", len(ACTIONS), size=SIDE, resize=SIDE, **shape)
    if pairs > min(EPOCHS):
        model.load_state_dict(trained(depth, pairs // 2, temporal, seed).state_dict())
    config = replace(TRAIN, epochs=EPOCHS[pairs], rate=RATES[pairs], seed=seed)
    folder = WORK / f"seed{seed}" / f"r{depth}_{temporal}_{pairs}x2"
    data = Batches(load_split("train", pairs), config.batch, seed)
    with Run(folder, config.identity(), resume=(folder / "config.yaml").exists()) as run:
        fit(model, data, Classification(model.spec), config, run, batches_per_epoch=len(data))
    return model.eval()


@torch.inference_mode()
def judge(model: VideoModel, pairs: int) -> Numbers:
    """Top-1 on the test split, multiply-adds and milliseconds of one clip."""
    right, seconds = 0, 0.0
    data = load_split("test", pairs)
    for batch in in_order(data, 16):
        clip = to_clip(batch.frames[:, 0], model.spec)
        start = time.perf_counter()
        logits: Tensor = model(clip)
        seconds += time.perf_counter() - start
        right += int((logits.argmax(1) == batch.labels).sum())
    count = len(data.labels)
    macs = count_macs(model, clip[:1]).total
    return {"top1": right / count, "mmacs": macs / 1e6, "ms": 1000 * seconds / count}


def run(variant: str, seed: int) -> Numbers:
    """One cell, such as "r26_8x2" or "r26_8x2_plain", the latter without aggregation over time."""
    depth, pairs, *plain = variant.split("_")
    count = int(pairs.removesuffix("x2"))
    model = trained(int(depth[1:]), count, "none" if plain else "aggregation", seed)
    return judge(model, count)


EXPERIMENT = Experiment(
    name="blvnet",
    claim="bLVNet-TAM that reads more frames of a video pays in proportion and gains from them; without "
    "aggregation over time (`plain`) it gains less.",
    variants=(
        *("r26_4x2", "r26_8x2", "r26_16x2"),
        *("r50_4x2", "r50_8x2", "r50_16x2"),
        *("r26_4x2_plain", "r26_8x2_plain", "r26_16x2_plain"),
    ),
    columns=(
        Column("top1", "test top-1, %", 100),
        Column("mmacs", "MMACs a clip"),
        Column("ms", "ms a clip"),
    ),
    run=run,
    settings={
        "clips": COUNTS,
        "figures": str(CONFIG),
        "side": SIDE,
        "epochs": {str(pairs): epochs for pairs, epochs in EPOCHS.items()},
        "rates": {str(pairs): rate for pairs, rate in RATES.items()},
        "train": TRAIN.identity(),
    },
    plot=("mmacs", "top1"),
)
