"""Fine-tuning on hundreds of videos: a patch that the network learnt to find, against whole frames.

The videos are of experiments/physics.py: ten mechanisms, a fifth to a quarter of the frame's side, in
clutter. "looking" is the recipe `attention` on EfficientNet-Lite0 twice, without its last stage; "linear" a
linear classifier on frozen features of the same network on whole frames of 224 pixels; "tsm" the same network
fine-tuned as a TSM on whole frames for about as much processor time, "tsm_twice" for more. All start from the
same ImageNet weights and see eight frames of the same videos. Where the patches lie is scored against the
true boxes.
"""

from __future__ import annotations

import json
import resource
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from experiments.physics import PhysicsConfig, make_physics
from experiments.runner import Column, Experiment, Numbers
from foveate.data.dataset import VideoDataset
from foveate.data.lists import VideoList, read_list
from foveate.infer.engine import EagerEngine
from foveate.infer.features import extract_features
from foveate.infer.read import ClipReader
from foveate.measure.cost import measure_latency
from foveate.models.base import VideoModel
from foveate.train.job import TrainJob
from foveate.train.recipes import RECIPES, recipe_for, with_plan
from foveate.train.stages import train_model
from foveate.video.sample import views
from foveate.weights.load import load_model

DATA = Path("work/looking")
VIDEOS = PhysicsConfig(side=384, size=(0.18, 0.25))
TRAIN, TEST = 300, 200
LOOKING, WHOLE = "adafocus_lite0_lite0_128", "tsn_lite0_8"
PLAN = replace(RECIPES["attention"].plan, tune_epochs=0)  # the networks stay frozen
TSM_EPOCHS = 1
ROUNDS = 30  # of the linear classifier over the videos


def prepare() -> dict[str, VideoList]:
    """The made videos by split."""
    lists = make_physics(DATA, TRAIN, TEST, 0, config=VIDEOS)
    return {split: read_list(path) for split, path in lists.items() if split in ("train", "val")}


def run(variant: str, seed: int) -> Numbers:
    """Train and judge one cell."""
    lists, began = prepare(), _processor_seconds()
    model, top1 = VARIANTS[variant](lists, seed)
    minutes = (_processor_seconds() - began) / 60
    numbers = {"top1": top1, "cpu_minutes": minutes} | _cost(model)
    return numbers | (_where(model, lists["val"]) if variant == "looking" else {})


def _looking(lists: dict[str, VideoList], seed: int) -> tuple[VideoModel, float]:
    return _trained(replace(_job(LOOKING, "attention", seed), plan=PLAN))


def _tsm(lists: dict[str, VideoList], seed: int, epochs: int = TSM_EPOCHS) -> tuple[VideoModel, float]:
    job = _job("tsm_lite0_8", "small", seed)
    return _trained(
        replace(job, train=replace(job.train, epochs=epochs, batch=8, rate=5e-4, eval_every=epochs))
    )


def _job(model: str, recipe: str, seed: int) -> TrainJob:
    out = Path("work") / "looking_runs" / f"{model}-{seed}"
    shutil.rmtree(out, ignore_errors=True)
    numbers = recipe_for(model, recipe)
    train = replace(numbers.train, seed=seed)
    videos, test = DATA / "train.jsonl", DATA / "val.jsonl"
    return with_plan(
        TrainJob(
            videos=videos, val=test, out=out, model=model, weights="imagenet", workers=1,
            train=train, augment=numbers.augment, recipe=recipe,
        )
    )[0]  # fmt: skip


def _trained(job: TrainJob) -> tuple[VideoModel, float]:
    model, outcome = train_model(job)
    return model.eval(), outcome.scores["top1"]


def _linear(lists: dict[str, VideoList], seed: int) -> tuple[VideoModel, float]:
    """A linear classifier on the mean features of the frames, each feature at scale 1."""
    model = load_model(WHOLE, "imagenet")
    found = {split: _features(model, lists[split]) for split in ("train", "val")}
    x, labels = found["train"]
    mean, scale = x.mean(0), x.std(0) + 1e-3
    torch.manual_seed(seed)
    head = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(x.shape[1], len(VIDEOS.classes)))
    optimizer = torch.optim.AdamW(head.parameters(), 2e-3, weight_decay=0.05)
    for _ in range(ROUNDS):
        for rows in torch.randperm(len(x)).split(32):
            loss = F.cross_entropy(head((x[rows] - mean) / scale), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    x, labels = found["val"]
    right = head.eval()((x - mean) / scale).argmax(1) == labels
    return model, right.float().mean().item()


def _features(model: VideoModel, videos: VideoList) -> tuple[torch.Tensor, torch.Tensor]:
    rows = list(extract_features(EagerEngine(model), ClipReader(model.spec), videos.entries))
    assert all(row.features is not None for row in rows)
    features = torch.stack([torch.from_numpy(row.features) for row in rows if row.features is not None])
    return features, torch.tensor([row.labels[0] for row in rows])


def _cost(model: VideoModel) -> Numbers:
    """Multiply-adds and milliseconds of a clip as the model reads it, eager on one core."""
    spec = model.spec
    clip = torch.rand(1, 3, spec.frames, spec.size, spec.size)
    with torch.no_grad():
        macs = model.eval().output(clip).macs
        latency = measure_latency(lambda: model(clip))
    assert macs is not None
    return {"gmacs": float(macs) / 1e9, "ms": latency.median}


def _where(model: VideoModel, videos: VideoList) -> Numbers:
    """How often the middle of the true box is in the patch, how much of the box the patch covers, in frames.

    The same of a patch in the middle of every frame.
    """
    spec = model.spec
    data = VideoDataset(videos.entries, spec, videos.num_classes)
    places = views(VIDEOS.frames, spec, 1, VIDEOS.fps)[0]
    scores = []
    for index, entry in enumerate(videos.entries):
        boxes = json.loads(Path(entry.path).with_suffix(".json").read_text())["boxes"]
        truth = torch.tensor(boxes)[places] * (spec.size / VIDEOS.side)  # (T, 4)
        with torch.no_grad():
            output = model.output(model.prepare(data[0, index].frames))
        assert output.boxes is not None
        patch = output.boxes[0]
        corner = (spec.size - (patch[0, 2] - patch[0, 0])) / 2
        middle = torch.stack([corner, corner, spec.size - corner, spec.size - corner]).expand_as(patch)
        scores.append([score(box, truth) for box in (patch, middle) for score in (_holds, _share)])
    means = torch.tensor(scores).mean(0).tolist()
    return dict(zip(("inside", "covered", "inside_centre", "covered_centre"), means, strict=True))


def _holds(patch: torch.Tensor, truth: torch.Tensor) -> float:
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    return ((patch[:, :2] <= middle) & (middle < patch[:, 2:])).all(1).float().mean().item()


def _share(patch: torch.Tensor, truth: torch.Tensor) -> float:
    common = torch.minimum(truth[:, 2:], patch[:, 2:]) - torch.maximum(truth[:, :2], patch[:, :2])
    return (common.clamp(min=0).prod(1) / (truth[:, 2:] - truth[:, :2]).prod(1)).mean().item()


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


VARIANTS = {
    "looking": _looking,
    "linear": _linear,
    "tsm": _tsm,
    "tsm_twice": partial(_tsm, epochs=2 * TSM_EPOCHS),
}


def settings() -> dict[str, Any]:
    """Everything that the numbers depend on."""
    recipe = RECIPES["attention"]
    return {
        "videos": asdict(VIDEOS),
        "train": TRAIN,
        "val": TEST,
        "looking": asdict(PLAN) | asdict(recipe.train),
        "tsm_epochs": TSM_EPOCHS,
        "rounds": ROUNDS,
    }


EXPERIMENT = Experiment(
    name="looking",
    claim="On some hundred videos of small subjects, a patch that is learnt from labels alone beats whole "
    "frames: a linear classifier on frozen features, and a TSM fine-tuned for one pass over the videos, "
    "which takes four fifths of the time. Milliseconds are of a busy machine.",
    variants=tuple(VARIANTS),
    columns=(
        Column("top1", "top-1 %", 100),
        Column("cpu_minutes", "training, CPU min"),
        Column("gmacs", "GMACs a video", digits=2),
        Column("ms", "ms a video", digits=0),
        Column("inside", "middle of the box in the patch %", 100),
        Column("covered", "box covered %", 100),
        Column("inside_centre", "centre patch: middle %", 100),
        Column("covered_centre", "centre patch: covered %", 100),
    ),
    run=run,
    settings=settings(),
)
