"""From a list of videos to a trained classifier in a run folder: the job behind `foveate train`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from foveate.config import to_dict
from foveate.data.dataset import VideoDataset, make_loader
from foveate.data.lists import Format, VideoList, read_list
from foveate.errors import UsageError
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.distributed import ALONE, World, open_world
from foveate.train.evaluate import Average, evaluate
from foveate.train.loop import Outcome, fit
from foveate.train.objective import Classification
from foveate.train.run import Run
from foveate.video.transform import Augment
from foveate.weights.file import read_model, save_model
from foveate.weights.load import load_model, start_from


@dataclass(frozen=True)
class TrainJob:
    """What is trained, on what, from where, and where it goes."""

    videos: Path  # training list, or folder with one sub-folder a class
    out: Path  # run folder
    model: str = "tsm_lite0_8"  # name of the zoo
    val: Path | None = None  # list that chooses the best epoch; none: the last epoch is kept
    weights: str | None = None  # "imagenet", or a Foveate file to fine-tune; none: from scratch
    settings: tuple[str, ...] = ()  # fields of the model's configuration, such as frames=16 size=112
    format: Format = "auto"  # of the lists; see `foveate data list --help`
    root: Path | None = None  # folder that the paths of the lists start from; none: the list's own
    classes: Path | None = None  # class names; none: the list's own
    template: str | None = None  # names of extracted frames, such as img_{:05d}.jpg
    split: str | None = None  # of the training list, where its format has several
    val_split: str | None = None  # of the validation list; the two may be one folder
    clips: int = 1  # clips of a validation video
    crops: int = 1  # crops of a validation clip, 1 or 3
    workers: int = 2  # processes that decode
    device: str = "cpu"  # cpu or cuda
    resume: bool = False  # continue the run in `out`
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: Augment = field(default_factory=Augment)


def train_classifier(job: TrainJob) -> tuple[VideoModel, Outcome]:
    """Train by the job and return the model with how it went; the run folder holds the best one.

    Raises DataError for a list that cannot be used, UsageError for settings that do not fit, Stopped after a
    signal with everything saved.
    """
    lists = _read_lists(job)
    model = build_model(job, lists[0])
    with open_world(job.train.timeout_s) as world:
        device = _device(job.device, world)
        model = model.to(device)
        settings = to_dict(job) | {"resume": False}
        with Run(job.out, settings, job.resume, world.main) as run:
            outcome = _fit(job, model, lists, run, world, device)
    return model, outcome


def _fit(
    job: TrainJob, model: VideoModel, lists: Sequence[VideoList], run: Run, world: World, device: torch.device
) -> Outcome:
    seed, several = job.train.seed, lists[0].multi_label
    data = VideoDataset(lists[0].entries, model.spec, lists[0].num_classes, several, job.augment, seed=seed)

    def judge(judged: torch.nn.Module) -> dict[str, float]:
        return judge_list(judged, lists[1], job.clips, job.crops, job.train.batch, job.workers, world)

    part = job.train.part(world.size)
    per_epoch = len(_loader(job, data, part, world)(0, 0))
    training = {"model": job.model, "from": job.weights, "videos": len(data), "epochs": job.train.epochs}
    objective = Classification(model.spec, job.train.loss, job.train.label_smoothing, device)
    return fit(
        model,
        _loader(job, data, part, world),
        objective,
        job.train,
        run,
        batches_per_epoch=per_epoch,
        evaluate=judge if len(lists) > 1 else None,
        save_best=partial(_save, training),
        fingerprint=fingerprint(lists),
        world=world,
    )


def build_model(job: TrainJob, videos: VideoList) -> VideoModel:
    """The untrained or pretrained model with a classifier for the classes of the list."""
    fields = parse_settings(job.settings)
    torch.manual_seed(job.train.seed)
    if job.weights == "imagenet":
        model = load_model(job.model, weights="imagenet", **fields)
        model.reset_head(videos.num_classes)
    else:
        model = create_model(job.model, videos.num_classes, **fields)
        if job.weights is not None:
            start_from(model, read_model(Path(job.weights))[0])
    model.labels = videos.class_names
    return model


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`("frames=16", "shift=both")` as values; UsageError for a word without '='."""
    fields = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(setting, "a model setting is written key=value")
        fields[key] = yaml.safe_load(value)
    return fields


def fingerprint(lists: Sequence[VideoList]) -> str:
    """A hash of what the lists say; a resumed run must see the same."""
    digest = hashlib.sha256()
    for videos in lists:
        for entry in videos.entries:
            digest.update(
                f"{Path(entry.path).name} {entry.labels} {entry.start} {entry.end}\n".encode(
                    "utf-8", "replace"
                )
            )
    return digest.hexdigest()[:16]


def _read_lists(job: TrainJob) -> list[VideoList]:
    train = read_list(job.videos, job.format, job.root, job.classes, job.template, job.split)
    _check_loss(job, train)
    if job.val is None:
        return [train]
    classes, base = job.classes or train.class_names, 1 if train.label_base else 0
    val = read_list(job.val, job.format, job.root, classes, job.template, job.val_split, base)
    if val.class_names != train.class_names:
        raise UsageError(
            job.val,
            f"names {val.num_classes} classes, the training list {train.num_classes}, not the same ones",
            "give --classes",
        )
    if val.multi_label != train.multi_label:
        raise UsageError(job.val, "one list has several labels a video, the other has one")
    return [train, val]


def _check_loss(job: TrainJob, videos: VideoList) -> None:
    if videos.multi_label == (job.train.loss == "cross_entropy"):
        several = "several labels" if videos.multi_label else "one label"
        fitting = "bce or soft_cross_entropy" if videos.multi_label else "cross_entropy"
        raise UsageError(
            job.videos, f"{several} a video do not fit --loss {job.train.loss}", f"use {fitting}"
        )


def _loader(job: TrainJob, data: VideoDataset, part: int, world: World) -> Any:
    def batches(epoch: int, start_batch: int) -> Any:
        return make_loader(
            data,
            part,
            epoch,
            job.train.seed,
            True,
            job.workers,
            start_batch,
            world.rank,
            world.size,
            drop_last=True,
        )

    return batches


def judge_list(
    model: torch.nn.Module,
    videos: VideoList,
    clips: int = 1,
    crops: int = 1,
    batch: int = 16,
    workers: int = 2,
    world: World = ALONE,
    average: Average = "logits",
) -> dict[str, float]:
    """The measures of a model on a list by a protocol of clips x crops; keys as in train/evaluate.py."""
    assert isinstance(model, VideoModel)
    count, several = videos.num_classes, videos.multi_label
    data = VideoDataset(videos.entries, model.spec, count, several, clips=clips, crops=crops)
    loader = make_loader(data, batch, 0, 0, False, workers, rank=world.rank, world=world.size)
    return evaluate(model, loader, count, several, average=average, world=world)


def _save(training: dict[str, Any], model: torch.nn.Module, path: Path) -> None:
    assert isinstance(model, VideoModel)
    save_model(model, path, training)


def _device(name: str, world: World) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            "device", f"{name} is not here", "use --device cpu; `foveate doctor` says what there is"
        )
    return torch.device("cuda", world.local_rank) if name == "cuda" and world.size > 1 else torch.device(name)
