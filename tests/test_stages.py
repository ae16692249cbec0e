"""All stages of AdaFocus by one call: on files, resumed, refused out of order, and the finished model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.errors import UsageError
from foveate.train.checkpoint import load_checkpoint
from foveate.train.classifier import TrainJob
from foveate.train.config import FocusPlan, TrainConfig
from foveate.train.stages import train_stages
from foveate.video.transform import Augment
from foveate.weights.file import read_model

SIDE = 32
NETS = (
    "resize=32",
    "size=32",
    "glance_size=16",
    "patch=16",
    "frames=2",
    "policy_width=8",
    "policy_squeeze=2",
)
PLAN = FocusPlan(
    glance_epochs=1, local_epochs=1, patch_epochs=1, policy_epochs=1, tune_epochs=1, patch_classifier=1.0,
    glance_rate=1e-3, local_rate=1e-3, patch_rate=1e-3, tune_rate=1e-3,
)  # fmt: skip
TRAIN = TrainConfig(epochs=1, batch=4, optimizer="adamw", rate=1e-3, reference_batch=None)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tiny videos of two classes, as arrays, in a list."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    lines = [json.dumps({"foveate": 1, "classes": ["dark", "light"]})]
    for number in range(8):
        level = 60 + 120 * (number % 2)
        array = rng.integers(level - 30, level + 30, (4, SIDE, SIDE, 3)).astype(np.uint8)
        np.save(folder / f"{number}.npy", array)
        lines.append(json.dumps({"path": f"{number}.npy", "labels": [number % 2]}))
    (folder / "list.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "list.jsonl"


def job(videos: Path, out: Path, model: str = "adafocus_small", *settings: str) -> TrainJob:
    return TrainJob(
        videos, out, model, val=videos, settings=(*NETS, *settings), workers=0, train=TRAIN,
        augment=Augment(crop="center"), focus=PLAN,
    )  # fmt: skip


def only(whole: TrainJob, name: str) -> TrainJob:
    return replace(whole, focus=replace(PLAN, only=(name,)))


def test_every_stage_runs_and_the_model_works(videos: Path, tmp_path: Path) -> None:
    model, outcome = train_stages(job(videos, tmp_path, "adafocus_small", "skip=true"))
    stages = ["stage0", "stage0_local", "stage1", "stage2", "stage2_skip", "stage3"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == stages
    assert set(outcome.scores) >= {"top1", "n_ok"}
    loaded, card = read_model(tmp_path / "best.safetensors")
    clip = torch.randn(1, 3, 2, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(loaded(clip), model.eval()(clip))
    assert card.labels == ("dark", "light")


def test_a_second_turn_starts_from_the_tuned_classifier(videos: Path, tmp_path: Path) -> None:
    whole = job(videos, tmp_path, "adafocus_small", "skip=true")
    train_stages(replace(whole, focus=replace(PLAN, local_epochs=0, turns=2)))
    stages = ["stage0", "stage1", "stage2", "stage2_2", "stage2_skip", "stage3", "stage3_2"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == stages
    first, tuned, second = (
        load_checkpoint(tmp_path / name / "last.ckpt")["state"]["model"]
        for name in ("stage2", "stage3", "stage2_2")
    )
    classifier = "classifier.linear.weight"
    assert not torch.equal(first[classifier], tuned[classifier])
    assert torch.equal(tuned[classifier], second[classifier])


def test_resumed_stages_are_not_run_again(videos: Path, tmp_path: Path) -> None:
    first, _ = train_stages(job(videos, tmp_path))
    written = (tmp_path / "stage1" / "metrics.jsonl").stat().st_mtime_ns
    again, _ = train_stages(replace(job(videos, tmp_path), resume=True))
    assert (tmp_path / "stage1" / "metrics.jsonl").stat().st_mtime_ns == written
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)


def test_stages_one_at_a_time_give_the_same(videos: Path, tmp_path: Path) -> None:
    whole, _ = train_stages(job(videos, tmp_path / "whole"))
    for name in ("stage0", "stage0_local", "stage1", "stage2", "stage3"):
        parts, _ = train_stages(only(job(videos, tmp_path / "parts"), name))
    same = [torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)]
    assert all(same)


@pytest.mark.parametrize(
    ("name", "message"),
    [("stage2", "needs stage1, which was not run"), ("stage9", "no such stage")],
)
def test_a_stage_out_of_order_is_refused(videos: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train_stages(only(job(videos, tmp_path), name))


def test_v2_trains_in_one_stage(videos: Path, tmp_path: Path) -> None:
    train_stages(job(videos, tmp_path, "adafocus_v2_small", "classifier_width=8"))
    assert (tmp_path / "best.safetensors").exists() and (tmp_path / "together").is_dir()


def test_tsm_form_trains_in_stages(videos: Path, tmp_path: Path) -> None:
    small = ("glance=resnet10", "local=resnet10", "glance_width=0.125", "local_width=0.125")
    frames = ("glance_frames=2", "local_frames=2", "pool=max")
    train_stages(job(videos, tmp_path, "adafocus_tsm_144", *small, *frames))
    assert (tmp_path / "stage3" / "last.ckpt").exists()
