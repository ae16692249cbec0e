"""What more frames are worth: bLVNet-TAM reading 4, 8 and 16 pairs of frames of the same videos.

After Fan et al. ("More Is Less", NeurIPS 2019): twice the frames cost twice the work and are worth it, at two
depths, because the aggregation over time relates them. As there, a longer input starts from the model of the
next shorter one; one that stays with the shorter input learns as many epochs. The figures here repeat their
movement so quickly that 8 frames of a video miss much of it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.clips import Arrays, Batches, Split, drawn, in_order
from experiments.runner import Column, Experiment, Numbers
from experiments.spent import Lesson, race, step_race, training_memory
from foveate.data.synthetic import FiguresConfig, render_clip
from foveate.layers.normalise import to_clip
from foveate.measure.cost import count_macs
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.loop import fit
from foveate.train.objective import Classification
from foveate.train.run import Run

WORK = Path(__file__).parents[1] / "work" / "blvnet"
SIDE, FRAMES = 64, 32
COUNTS = {"train": 480, "test": 320}
ACTIONS = ("walk", "run", "jump", "wave", "clap", "squat", "kick", "bow")
CONFIG = FiguresConfig(actions=ACTIONS, stature=(0.55, 0.7), cycles=(4.0, 7.0), clutter=(3, 5))
KINDS: dict[str, dict[str, Any]] = {
    "aggregation": {},
    "identity": {"aggregation": {"start": "identity"}},
    "plain": {"temporal": "none"},
}


class Stretch(NamedTuple):
    """Some epochs of training on clips of so many pairs of frames, or of as many as the model reads."""

    pairs: int
    epochs: int
    rate: float


STRETCHES = (Stretch(4, 12, 2e-3), Stretch(8, 3, 5e-4), Stretch(16, 2, 5e-4))
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


def build(depth: int, pairs: int, kind: str) -> VideoModel:
    """kind: aggregation (as published), identity (that starts with nothing mixed), or plain (none)."""
    shape: dict[str, Any] = {"depth": depth, "frames": 2 * pairs, "dropout": 0.3} | KINDS[kind]
    return create_model("blvnet_small", len(ACTIONS), size=SIDE, resize=SIDE, **shape)


def trained(depth: int, pairs: int, kind: str, seed: int) -> VideoModel:
    """The model of a cell, trained stretch by stretch; shorter cells of the seed share the first ones."""
    torch.manual_seed(seed)
    model, name = build(depth, min(pairs, STRETCHES[0].pairs), kind), f"r{depth}_{kind}"
    for stretch in STRETCHES:
        now = min(pairs, stretch.pairs)
        longer = build(depth, now, kind)
        longer.load_state_dict(model.state_dict())
        model, name = longer, f"{name}_{now}x2"
        config = replace(TRAIN, epochs=stretch.epochs, rate=stretch.rate, seed=seed)
        folder, data = WORK / f"seed{seed}" / name, Batches(load_split("train", now), config.batch, seed)
        with Run(folder, config.identity(), resume=(folder / "config.yaml").exists()) as run:
            fit(model, data, Classification(), config, run, batches_per_epoch=len(data))
    return model.eval()


@torch.inference_mode()
def judge(model: VideoModel, pairs: int) -> Numbers:
    """Top-1 on the test split, multiply-adds and time of one clip."""
    data = load_split("test", pairs)
    clips = [to_clip(batch.frames[:, 0], model.spec) for batch in in_order(data, 16)]
    right = torch.cat([model(clip) for clip in clips]).argmax(1) == data.labels
    cost = {"mmacs": count_macs(model, clips[0][:1]).total / 1e6}
    least = min(stretch.pairs for stretch in STRETCHES)
    still = load_split("test", least).frames[:1]
    other = build(26, least, "aggregation")
    return {"top1": float(right.float().mean())} | cost | race(model, data.frames, other, still)


def lesson_of(model: VideoModel) -> Lesson:
    return model, Classification()


def run(variant: str, seed: int) -> Numbers:
    """One cell, such as "r26_8x2" or "r26_8x2_plain"."""
    depth, pairs, *kind = variant.split("_")
    shape = int(depth[1:]), int(pairs.removesuffix("x2")), (kind or ["aggregation"])[0]
    memory = training_memory(lambda: lesson_of(build(*shape)), TRAIN)
    smallest = build(26, STRETCHES[0].pairs, "aggregation")
    steps = step_race(lesson_of(build(*shape)), lesson_of(smallest), TRAIN)
    return judge(trained(*shape, seed), shape[1]) | steps | {"memory": memory}


FOUND = """What was found. With the aggregation as published, more frames are worth their work, as in the
paper: every doubling of the pairs doubles the multiply-adds, and at depth 26 it gains 5 and 2 points, at
depth 50 4 and none. The deeper network gains 2 to 4 points for a fifth more work. But the spread over the
seeds is as large as the gain (at 4x2 from 84 to 94 %), and without any aggregation four pairs name 98 %
already: these actions can be told from single frames, so that here an aggregation has little to give, and
has to be learnt.

Why it costs so much: as published it starts at random, and mixes by lot what the layers before it find. One
that starts as the identity (an addition of this library) learns like the network without (97.6 % ± 0.4 with
four pairs, where the published start has 90.5 ± 5.4; the longer clips one seed). So most of what more
frames seem to gain above is that they train the aggregation longer. A test in which order counts is in
experiments/fullvideo.py.

Memory and time of a training step grow with the frames: 16 pairs take five times the memory of 4. Steps
were timed in turns with the smallest network's while another training ran: read the quotients."""

EXPERIMENT = Experiment(
    name="blvnet",
    claim="What bLVNet-TAM gains from more frames of a video and from a deeper network, what it pays, and "
    "what is left of it without aggregation over time (`plain`), or with one that starts as the identity.",
    variants=(
        *("r26_4x2", "r26_8x2", "r26_16x2"),
        *("r50_4x2", "r50_8x2", "r50_16x2"),
        *("r26_4x2_plain", "r26_8x2_plain", "r26_16x2_plain"),
        *("r26_4x2_identity", "r26_8x2_identity", "r26_16x2_identity"),
    ),
    columns=(
        Column("top1", "test top-1, %", 100),
        Column("mmacs", "MMACs a clip"),
        Column("times", "time, r26 4x2 = 1", digits=2),
        Column("step_times", "training step, r26 4x2 = 1", digits=2),
        Column("memory", "peak memory growth of training, MiB", digits=0),
    ),
    run=run,
    settings={
        "clips": COUNTS,
        "figures": str(CONFIG),
        "side": SIDE,
        "stretches": str(STRETCHES),
        "train": TRAIN.identity(),
    },
    plot=("mmacs", "top1"),
    after=FOUND,
)
