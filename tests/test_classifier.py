"""The job behind `foveate train`: what it refuses before it starts, what it starts from, what it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.cli.training import read_job
from foveate.data.lists import VideoEntry, VideoList, read_list, write_jsonl
from foveate.data.synthetic import make_move4mnist
from foveate.errors import DataError, FoveateError, ModelFileError, UsageError
from foveate.infer.engine import EagerEngine
from foveate.models.base import VideoModel
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.job import (
    TrainJob,
    evaluate_list,
    fingerprint,
    named_model,
    parse_settings,
    start_from_file,
    weights_file,
)
from foveate.train.recipes.classifier import ClassifierPlan
from foveate.train.stages import train_model
from foveate.video.transform import Augment
from foveate.weights.file import read_model, save_model

SETTINGS = ("width=0.125", "size=32", "resize=32", "frames=2")
CONFIG = TrainConfig(epochs=2, batch=4, reference_batch=None)
pytestmark = pytest.mark.usefixtures("one_thread")


def build_model(job: TrainJob, videos: VideoList) -> VideoModel:
    """What training starts from."""
    model, path = named_model(job, videos), weights_file(job)
    if path:
        start_from_file(model, path)
    return model


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lists of 8 and 4 tiny videos of 4 classes."""
    return make_move4mnist(tmp_path_factory.mktemp("moves"), train=8, val=4, workers=1)


@pytest.fixture
def job(lists: dict[str, Path], tmp_path: Path) -> TrainJob:
    return TrainJob(
        videos=lists["train"],
        val=lists["val"],
        out=tmp_path / "run",
        model="tsm_r10_8",
        settings=SETTINGS,
        workers=0,
        train=CONFIG,
        augment=Augment(flip=False),
    )


def write_list(path: Path, videos: VideoList, **changes: Any) -> Path:
    write_jsonl(replace(videos, **changes), path)
    return path


def test_a_run_leaves_a_model_that_needs_nothing_else(job: TrainJob) -> None:
    model, outcome = train_model(job)
    best, card = read_model(job.out / "best.safetensors")
    assert best.labels == model.labels == ("left", "right", "up", "down")
    assert (best.spec.frames, best.spec.size, card.name) == (2, 32, "tsm_r10_8")
    assert card.training == {"from": None, "videos": 8, "epochs": 2}
    assert (outcome.steps, outcome.scores["n_total"]) == (4, 4.0)
    assert 0 <= outcome.scores["top1"] <= (outcome.best or 0)
    assert (
        evaluate_list(EagerEngine(best), read_list(job.val or ""), workers=0).measures["top1"] == outcome.best
    )


def test_the_settings_of_a_run_make_the_same_job(job: TrainJob) -> None:
    train_model(replace(job, val=None))
    assert read_job(job.out / "config.yaml") == replace(job, val=None, plan=ClassifierPlan())


def test_the_same_job_gives_the_same_bytes(job: TrainJob, tmp_path: Path) -> None:
    runs = [replace(job, val=None, out=tmp_path / name) for name in ("one", "two")]
    for run in runs:
        train_model(run)
    one, two = ((run.out / "best.safetensors").read_bytes() for run in runs)
    assert one == two


def test_several_labels_a_video_are_learnt_and_judged_by_map(job: TrainJob, tmp_path: Path) -> None:
    videos = read_list(job.videos)
    entries = tuple(replace(entry, labels=(entry.labels[0], 0)) for entry in videos.entries)
    several = write_list(tmp_path / "several.jsonl", videos, entries=entries, multi_label=True)
    config = replace(CONFIG, epochs=1, loss="bce", monitor="mAP")
    _, outcome = train_model(replace(job, videos=several, val=several, train=config))
    assert 0 < outcome.scores["mAP"] <= 1
    assert outcome.best == outcome.scores["mAP"]


class TestRefused:
    """Before the run folder is touched."""

    def refuse(self, job: TrainJob, error: type[FoveateError], *words: str) -> None:
        with pytest.raises(error) as refusal:
            train_model(job)
        assert not job.out.exists()
        for word in words:
            assert word in str(refusal.value)

    def test_a_list_without_labels(self, job: TrainJob, tmp_path: Path) -> None:
        entries = tuple(VideoEntry(entry.path) for entry in read_list(job.videos).entries)
        bare = write_list(tmp_path / "bare.jsonl", VideoList(entries, (), "jsonl"))
        self.refuse(replace(job, videos=bare), DataError, "bare.jsonl", "8 of 8 videos have no label")
        self.refuse(replace(job, val=bare), DataError, "bare.jsonl", "have no label")

    def test_too_few_videos_for_a_batch(self, job: TrainJob) -> None:
        config = replace(CONFIG, batch=16)
        self.refuse(replace(job, train=config), DataError, "train.jsonl", "8 videos", "16")

    def test_settings_that_do_not_suit_the_labels(self, job: TrainJob) -> None:
        self.refuse(replace(job, train=replace(CONFIG, loss="bce")), UsageError, "--loss bce")
        self.refuse(replace(job, train=replace(CONFIG, monitor="mAP")), UsageError, "--monitor mAP", "top1")

    def test_a_validation_list_of_other_classes(self, job: TrainJob, tmp_path: Path) -> None:
        val = read_list(job.val or "")
        fewer = [entry for entry in val.entries if entry.labels[0] < 2]
        other = write_list(tmp_path / "o.jsonl", val, entries=tuple(fewer), class_names=("a", "b"))
        self.refuse(replace(job, val=other), FoveateError, "o.jsonl", "classes")

    def test_a_protocol_that_cannot_be(self, job: TrainJob) -> None:
        self.refuse(replace(job, crops=2), UsageError, "2 crops")

    def test_a_model_or_setting_that_is_not_there(self, job: TrainJob) -> None:
        self.refuse(replace(job, model="tsm_r10"), UsageError, "did you mean tsm_r10_8")
        self.refuse(replace(job, settings=("widht=1",)), UsageError, "did you mean width")
        self.refuse(replace(job, settings=("width",)), UsageError, "key=value")
        self.refuse(replace(job, settings=("width=[",)), UsageError, "cannot be read")

    def test_weights_that_are_not_there_or_of_another_model(self, job: TrainJob, tmp_path: Path) -> None:
        self.refuse(replace(job, weights="none.safetensors"), ModelFileError, "none.safetensors")
        other = tmp_path / "other.safetensors"
        save_model(create_model("tsn_r10_8", 2, width=0.125), other)
        self.refuse(
            replace(job, weights=str(other), settings=()), ModelFileError, "other.safetensors", "tsn_r10_8"
        )


class TestStart:
    def test_fine_tuning_keeps_everything_but_the_classifier(self, job: TrainJob, tmp_path: Path) -> None:
        source = create_model(job.model, 7, **parse_settings(SETTINGS))
        torch.nn.init.normal_(source.head.linear.weight)
        save_model(source, tmp_path / "source.safetensors")
        model = build_model(replace(job, weights=str(tmp_path / "source.safetensors")), read_list(job.videos))
        ours, theirs = model.state_dict(), source.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours if not key.startswith("head."))
        assert model.num_classes == 4

    def test_imagenet_weights_get_a_new_classifier(self, job: TrainJob) -> None:
        wanted = replace(job, model="tsm_lite0_8", weights="imagenet", settings=("frames=2",))
        model = build_model(wanted, read_list(job.videos))
        scratch = build_model(replace(wanted, weights=None), read_list(job.videos))
        assert (model.num_classes, model.config.num_classes, model.spec.frames) == (4, 4, 2)
        assert not torch.equal(next(model.parameters()), next(scratch.parameters()))

    def test_settings_are_read_as_yaml(self) -> None:
        settings = ("frames=16", "temporal=shift", "non_local=true", "width=0.5")
        assert parse_settings(settings) == {
            "frames": 16,
            "temporal": "shift",
            "non_local": True,
            "width": 0.5,
        }


def test_a_fingerprint_tells_lists_apart_wherever_they_lie(lists: dict[str, Path], tmp_path: Path) -> None:
    videos = read_list(lists["train"])
    moved = replace(
        videos, entries=tuple(replace(e, path=f"/elsewhere/{Path(e.path).name}") for e in videos.entries)
    )
    relabelled = replace(videos, entries=(replace(videos.entries[0], labels=(3,)), *videos.entries[1:]))
    turned = replace(videos, entries=videos.entries[::-1])
    assert fingerprint([videos]) == fingerprint([moved])
    others = [fingerprint(other) for other in ([relabelled], [turned], [videos, videos])]
    assert len({fingerprint([videos]), *others}) == 4


def test_files_that_cannot_be_read_are_listed_beside_the_run(job: TrainJob, tmp_path: Path) -> None:
    videos = read_list(job.videos)
    gone = VideoEntry(str(tmp_path / "gone.mp4"), (0,))
    mixed = write_list(tmp_path / "mixed.jsonl", videos, entries=(*videos.entries, gone))
    config = replace(CONFIG, batch=3, epochs=1, max_bad_fraction=0.2)
    train_model(replace(job, videos=mixed, val=None, train=config))
    (line,) = (job.out / "bad_files.jsonl").read_text().splitlines()
    assert json.loads(line) == {"path": gone.path, "cause": "no such file"}
