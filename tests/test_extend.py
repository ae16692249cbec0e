"""A run that goes on with more epochs or another rate: trained, recorded, or refused in a line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foveate.config import read_yaml
from foveate.errors import UsageError
from foveate.report.folder import read_run
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.stages import train_model
from foveate.video.transform import Augment
from test_stages import NETS
from test_stages import PLAN as ALL_STAGES

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TrainConfig(epochs=2, batch=4, optimizer="adamw", rate=1e-3, reference_batch=None, log_every=1)
PLAN = replace(ALL_STAGES, local_epochs=0)


@pytest.fixture(scope="module")
def plain(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A classifier that was trained for two epochs."""
    job = TrainJob(
        videos, tmp_path_factory.mktemp("plain") / "run", "tsn_r10_8", val=videos,
        settings=("size=32", "resize=32", "frames=2"), workers=0, train=CONFIG,
    )  # fmt: skip
    train_model(job)
    return job


@pytest.fixture(scope="module")
def staged(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """AdaFocus after one epoch of each stage."""
    job = TrainJob(
        videos, tmp_path_factory.mktemp("staged") / "run", "adafocus_small", val=videos, settings=NETS,
        workers=0, train=replace(CONFIG, epochs=50, rate=0.01), augment=Augment(crop="center"), plan=PLAN,
    )  # fmt: skip
    train_model(job)
    return job


def copy_of(job: TrainJob, tmp_path: Path) -> TrainJob:
    return replace(job, out=Path(shutil.copytree(job.out, tmp_path / "run")))


def lines(path: Path, kind: str = "") -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in records if not kind or record["kind"] == kind]


def test_two_epochs_become_four_and_that_is_on_record(plain: TrainJob, tmp_path: Path) -> None:
    job = copy_of(plain, tmp_path)
    steps = len(lines(job.out / "metrics.jsonl", "step"))
    longer = replace(job, extend=True, train=replace(CONFIG, epochs=4, rate=5e-4))
    _, outcome = train_model(longer)
    epochs = lines(job.out / "metrics.jsonl", "epoch")
    assert [record["epoch"] for record in epochs] == [0, 1, 2, 3]
    assert outcome.steps == 2 * steps == len(lines(job.out / "metrics.jsonl", "step"))
    assert lines(job.out / "changes.jsonl") == [
        {"epoch": 2, "step": steps, "changes": {"epochs": [2, 4], "rate": [0.001, 0.0005]}}
    ]
    third = lines(job.out / "metrics.jsonl", "step")[steps]
    assert third["lr"] == pytest.approx(5e-4 / 2)  # half of a cosine over four epochs
    settings = read_run(job.out).changed_settings()
    assert settings["epochs, after epoch 2"] == "2 became 4"
    assert settings["rate, after epoch 2"] == "0.001 became 0.0005"
    assert "2 became 4" in _page(job.out)
    assert read_yaml(job.out / "config.yaml")["train"]["epochs"] == 4
    before = (job.out / "metrics.jsonl").read_text()
    train_model(longer)  # nothing is left to change or to do
    train_model(replace(longer, extend=False, resume=True))
    assert (job.out / "metrics.jsonl").read_text() == before
    assert len(lines(job.out / "changes.jsonl")) == 1


def _page(folder: Path) -> str:
    from foveate.report.page import write_report

    return write_report(folder).read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 1}, "2 of 2 epochs are done, and 1 are asked for (--extend takes none away"),
        ({"epochs": 3, "batch": 2}, "made with batch 4, now it is 2 (resume with the same settings"),
        ({"weight_decay": 0.0}, "made with weight_decay 0.0001, now it is 0.0"),
    ],
)
def test_what_does_not_extend_a_run_is_refused_and_changes_nothing(
    plain: TrainJob, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    job = copy_of(plain, tmp_path)
    before = {path.name: path.read_bytes() for path in job.out.iterdir() if path.is_file()}
    with pytest.raises(UsageError) as caught:
        train_model(replace(job, extend=True, train=replace(CONFIG, **change)))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in job.out.iterdir() if path.is_file()} == before


def test_without_extend_the_refusal_names_it(plain: TrainJob) -> None:
    with pytest.raises(UsageError, match=r"made with epochs 2, now it is 4 \(add --extend to change it"):
        train_model(replace(plain, resume=True, train=replace(CONFIG, epochs=4)))


def test_nothing_to_extend(plain: TrainJob, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run to resume"):
        train_model(replace(plain, out=tmp_path / "typo", extend=True))


def test_a_finished_stage_goes_on_and_those_after_it_are_trained_anew(
    staged: TrainJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = copy_of(staged, tmp_path)
    train_model(replace(job, extend=True, plan=replace(PLAN, patch_epochs=3)))
    done = {name: len(lines(job.out / name / "metrics.jsonl", "epoch")) for name in _stages(job.out)}
    assert done == {"stage0": 1, "stage1": 3, "stage2": 1, "stage3": 1}
    assert "stage1 goes on, so stage2 and stage3, which started from it, will be trained anew" in caplog.text
    assert len(lines(job.out / "stage2" / "starts.jsonl")) == 1  # a run of its own
    run = read_run(job.out)
    assert run.changed_settings()["stage1 epochs, after epoch 1"] == "1 became 3"
    assert run.changed_settings()["patch_epochs"] == "3"
    assert {read_yaml(job.out / name / "config.yaml")["plan"]["patch_epochs"] for name in done} == {3}


def test_the_last_stage_goes_on_alone(staged: TrainJob, tmp_path: Path) -> None:
    job = copy_of(staged, tmp_path)
    kept = (job.out / "stage2" / "last.ckpt").read_bytes()
    train_model(replace(job, extend=True, plan=replace(PLAN, tune_epochs=2, tune_rate=5e-4)))
    assert (job.out / "stage2" / "last.ckpt").read_bytes() == kept
    changes = lines(job.out / "stage3" / "changes.jsonl")[0]["changes"]
    assert changes == {"epochs": [1, 2], "rate": [0.001, 0.0005]}


def _stages(out: Path) -> list[str]:
    return sorted(path.parent.name for path in out.glob("*/metrics.jsonl"))
