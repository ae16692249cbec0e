"""What a training is given, read and checked: lists, the model to start from, the batches."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, cast

import torch
import yaml
from typing_extensions import TypeVar

from foveate.choices import Average, Ensemble, ListFormat
from foveate.config import read_yaml, to_dict
from foveate.data.dataset import Batch, VideoDataset, make_loader
from foveate.data.guards import list_warnings
from foveate.data.lists import VideoList, read_list
from foveate.data.pool import usual_workers
from foveate.data.sides import sided_classes
from foveate.data.split import split_videos
from foveate.errors import DataError, ModelFileError, UsageError
from foveate.infer.engine import Engine
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.distributed import ALONE, ProcessGroup
from foveate.train.evaluate import score
from foveate.train.evaluation import Evaluation, to_evaluation
from foveate.video.transform import Augment
from foveate.weights.addresses import addresses, find_address
from foveate.weights.file import read_model, save_model
from foveate.weights.hub import is_hub_name, pull
from foveate.weights.load import SHIPPED, load_model
from foveate.weights.start import start_from, start_part

log = logging.getLogger(__name__)


P = TypeVar("P", default=Any)


@dataclass(frozen=True)
class TrainJob(Generic[P]):
    """What is trained, on what, from where, and where it goes. P: the options of its recipe."""

    videos: Path  # training list, or folder with one sub-folder a class
    out: Path  # run folder
    model: str = "tsm_lite0_8"  # name of the zoo
    val: Path | None = None  # list that chooses the best epoch, or judges stages; none: the last is kept
    val_share: float = 0.0  # part of every class, from 0 to 1, that is kept from training and used as `val`
    weights: str | None = None  # imagenet, kinetics400, a Foveate file to fine-tune; none: from scratch
    parts: tuple[str, ...] = ()  # of a model of several networks, their files: nets.0=FILE glance=FILE
    settings: tuple[str, ...] = ()  # fields of the model's configuration, such as frames=16 size=112
    format: ListFormat = "auto"  # of the lists; auto looks
    root: Path | None = None  # folder that the paths of the lists start from; none: the list's own
    classes: Path | None = None  # class names: a file, or kinetics400 and the like; none: the list's own
    template: str | None = None  # names of extracted frames, such as img_{:05d}.jpg
    split: str | None = None  # of the training list, where its format has several
    val_split: str | None = None  # of the validation list; the two may be one folder
    clips: int = 1  # clips of a validation video
    crops: int = 1  # crops of a validation clip, 1 or 3
    # Processes that decode; by default one for each processor, 8 at most, shared by those of torchrun.
    workers: int = field(default_factory=usual_workers)
    device: str = "cpu"  # cpu or cuda
    resume: bool = False  # continue the run in `out`
    extend: bool = False  # the same, and more epochs, another rate or schedule than before are a choice
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: Augment = field(default_factory=Augment)
    recipe: str = ""  # how it is trained: the model's own recipe if not given; small: for few videos, a CPU
    only: tuple[str, ...] = ()  # stages of the recipe to run now, such as stage2 stage3; none: all
    freeze: tuple[str, ...] = ()  # parts or parameters that do not learn, such as backbone or '*.bn*'
    plan: P = None  # type: ignore[assignment]  # options of the recipe; None: its defaults


def decides(job: TrainJob, model: VideoModel) -> dict[str, Any]:
    """What of a job has a part in the weights, beside its list and the settings of the loop."""
    chosen = {"model": to_dict(model.config), "augment": to_dict(job.augment)}
    return {f"{group}.{name}": value for group, fields in chosen.items() for name, value in fields.items()}


class TrainLoader:
    """The batches of a training list, for one of several processes."""

    def __init__(
        self, job: TrainJob, model: VideoModel, videos: VideoList, world: ProcessGroup = ALONE
    ) -> None:
        self.job = job
        self.world = world
        self.part = job.train.part(world.size)  # clips of one batch of this process
        self.per_epoch = len(videos) // world.size // self.part
        if not self.per_epoch:
            cause = f"{len(videos)} videos are fewer than one batch of {job.train.batch}"
            raise DataError(job.videos, cause, "choose a smaller batch")
        entries, classes = videos.entries, videos.num_classes
        seed = job.train.seed
        self.data = VideoDataset(entries, model.spec, classes, videos.multi_label, job.augment, seed=seed)

    def batches(self, epoch: int, start_batch: int) -> Iterable[Batch]:
        """Those of one epoch, from number `start_batch` on."""
        seed, workers = self.job.train.seed, self.job.workers
        world, balanced = self.world, self.job.train.sampler == "balanced"
        return make_loader(
            self.data, self.part, epoch, seed, True, workers, start_batch, world.rank, world.size,
            drop_last=True, timeout_s=world.file_timeout_s, balanced=balanced,
        )  # fmt: skip


def weights_file(job: TrainJob) -> Path | None:
    """The model file that training starts from; None for released weights, or none."""
    if not job.weights or job.weights == "imagenet" or job.weights in addresses(job.model):
        return None
    if (job.model, job.weights) in SHIPPED:
        return None
    if is_hub_name(job.weights):
        return pull(job.weights)
    path = Path(job.weights)
    if not path.suffix and path.name == job.weights and not path.exists():
        find_address(job.model, job.weights)  # which says what there is
    return path


def named_model(job: TrainJob, videos: VideoList) -> VideoModel:
    """The named model, untrained or with released weights, and a classifier for the classes of the list.

    A model file to start from is not read yet; the files of single parts are.
    """
    fields = parse_settings(job.settings)
    torch.manual_seed(job.train.seed)
    if job.weights and weights_file(job) is None:
        model = load_model(job.model, job.weights, **fields)
        model.reset_head(videos.num_classes)
    else:
        model = create_model(job.model, videos.num_classes, **fields)
    model.labels, model.independent = videos.class_names, job.train.loss == "bce"
    model.curve = None  # that of other weights
    if job.parts and weights_file(job):
        raise UsageError("parts", f"{job.weights} is a whole model", "give the one or the other")
    for part in job.parts:
        start_part_from_file(model, part)
    return model


def start_from_file(model: VideoModel, path: Path, made: Collection[str] = ()) -> VideoModel:
    """Give a model the weights of a file, as `start_from` does, and return the model of the file."""
    source = read_model(path)[0]
    try:
        start_from(model, source, made)
    except ModelFileError as error:
        what = f"another {model.name}" if source.name == model.name else f"{source.name}, not {model.name}"
        raise ModelFileError(path, f"holds {what}: {error.cause}", error.hint) from error
    return source


def start_part_from_file(model: VideoModel, part: str) -> None:
    """`nets.0=FILE`: give one network of a model that of the model in a file, as `start_part` does."""
    place, equals, path = part.partition("=")
    if not equals:
        raise UsageError(part, "a part is written network=file", "such as local=resnet50.safetensors")
    source = read_model(pull(path) if is_hub_name(path) else Path(path))[0]
    try:
        start_part(model, place, source)
    except ModelFileError as error:
        cause = f"holds {source.name}, whose network is not {place} of {model.name}: {error.cause}"
        raise ModelFileError(path, cause, error.hint) from error


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`("frames=16", "temporal=shift")` as values; UsageError for a word that says no such thing."""
    fields = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(setting, "a model setting is written key=value")
        if key in ("num_classes", "name"):
            raise UsageError(setting, "is no setting", "the videos or the file say it")
        try:
            fields[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(setting, "its value cannot be read", "write a number or a word") from error
    return fields


def fingerprint(lists: Sequence[VideoList]) -> str:
    """A hash of what the lists say; a resumed run must see the same."""
    digest = hashlib.sha256()
    for videos in lists:
        for entry in videos.entries:
            part = f"{entry.start} {entry.end}"
            if (entry.start_s, entry.end_s) != (None, None):
                part += f" {entry.start_s} {entry.end_s}"
            digest.update(f"{Path(entry.path).name} {entry.labels} {part}\n".encode("utf-8", "replace"))
    return digest.hexdigest()[:16]


def prepare(job: TrainJob) -> list[VideoList]:
    """The training list, and the validation list if there is one or a share is asked for, understood alike.

    DataError for a list that cannot be used or has no labels, UsageError for settings that do not fit it.
    """
    train = read_list(job.videos, job.format, job.root, job.classes, job.template, job.split)
    check_labels(train, job.videos)
    _check_fitting(job, train)
    if job.val_share:
        return list(split_videos(train, _checked_share(job), job.train.seed))
    if job.val is None:
        return [train]
    classes, base = job.classes or train.class_names, 1 if train.label_base else 0
    val = read_list(job.val, job.format, job.root, classes, job.template, job.val_split, base)
    check_labels(val, job.val)
    if val.class_names != train.class_names:
        cause = f"names {val.num_classes} classes, the training list {train.num_classes}, not the same ones"
        raise UsageError(job.val, cause, "give --classes")
    if val.multi_label != train.multi_label:
        raise UsageError(job.val, "one list has several labels a video, the other has one")
    return [train, val]


def _checked_share(job: TrainJob) -> float:
    if job.val is not None:
        raise UsageError("--val-share", "and --val are two ways to one list", "give one of them")
    if not 0 < job.val_share < 1:
        raise UsageError("--val-share", f"is {job.val_share:g}", "give a part between 0 and 1, such as 0.2")
    return job.val_share


def warnings_of(job: TrainJob, lists: Sequence[VideoList]) -> list[str]:
    """What to say of the lists before a training begins, a line each."""
    weighed = job.train.class_weights == "balanced" or job.train.sampler == "balanced"
    return list_warnings(lists[0], lists[1] if len(lists) > 1 else None, weighed)


def without_flip(job: TrainJob, videos: VideoList) -> tuple[TrainJob, str]:
    """The job without mirrored clips where class names tell left from right, and a line that says so, or "".

    A run that is resumed keeps what it began with.
    """
    sides = sided_classes(videos.class_names) if job.augment.flip and not job.augment.flip_sides else ()
    if not sides:
        return job, ""
    began = [path for path in (job.out / "config.yaml", *job.out.glob("*/config.yaml")) if path.exists()]
    if job.resume and began and read_yaml(began[0]).get("augment", {}).get("flip"):
        return job, ""
    names = " and ".join(f"'{name[:60]}'" for name in sides)
    line = f"clips are not mirrored: {names} tell sides apart (--flip mirrors them all the same)"
    return replace(job, augment=replace(job.augment, flip=False)), line


def check_labels(videos: VideoList, subject: object) -> None:
    """DataError unless every video has a label, or some video if it may have several."""
    bare = sum(not entry.labels for entry in videos.entries)
    if bare and (not videos.multi_label or bare == len(videos)):
        raise DataError(
            subject, f"{bare} of {len(videos)} videos have no label", "label them, or take them off the list"
        )


def _check_fitting(job: TrainJob, videos: VideoList) -> None:
    """UsageError for a loss or a measure that is not for labels of this kind."""
    several = videos.multi_label
    losses = ("bce", "soft_cross_entropy") if several else ("cross_entropy",)
    measured = ("mAP", "top1") if several else ("top1", "top5", "mean_class")
    kind = "several labels" if several else "one label"
    if several and job.train.sampler == "balanced":
        raise UsageError("--sampler", "balanced needs one label a video", "use --class-weights balanced")
    for option, chosen, fitting in (
        ("loss", job.train.loss, losses),
        ("monitor", job.train.monitor, measured),
    ):
        if chosen not in fitting:
            cause = f"{kind} a video do not fit --{option} {chosen}"
            raise UsageError(job.videos, cause, f"use {' or '.join(fitting)}")


def evaluate_list(
    engine: Engine,
    videos: VideoList,
    clips: int = 1,
    crops: int = 1,
    batch: int = 16,
    workers: int = 2,
    world: ProcessGroup = ALONE,
    average: Average = "logits",
    ensemble: Ensemble = "mean",
) -> Evaluation:
    """An engine's model evaluated on a list by clips x crops."""
    data = test_data(videos, engine.model, clips, crops)
    loader = make_loader(
        data, batch, 0, 0, False, workers, 0, world.rank, world.size, timeout_s=world.file_timeout_s
    )
    scored = score(engine, loader, average=average, ensemble=ensemble, world=world)
    return to_evaluation(scored, engine.model, videos, f"{clips}x{crops}", average)


def test_data(videos: VideoList, model: VideoModel, clips: int, crops: int) -> VideoDataset:
    """The views of a list that a model is judged by; UsageError for a protocol that cannot be."""
    classes, several = videos.num_classes, videos.multi_label
    return VideoDataset(videos.entries, model.spec, classes, several, clips=clips, crops=crops)


def save_best(training: dict[str, Any], model: torch.nn.Module, path: Path) -> None:
    """Write a model file. training: a summary of how it came about."""
    save_model(cast(VideoModel, model), path, training)


def device_of(name: str, world: ProcessGroup) -> torch.device:
    """The device of a job; where several processes share the work, the GPU of this one."""
    return torch.device("cuda", world.local_rank) if name == "cuda" and world.size > 1 else torch.device(name)
