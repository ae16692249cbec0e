"""All stages of AdaFocus by one call: on files, resumed, refused out of order, and the finished model."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foveate.cli import main
from foveate.cli.training import read_job
from foveate.errors import ModelFileError, UsageError
from foveate.models.zoo import create_model
from foveate.train.checkpoint import load_checkpoint, save_checkpoint
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob, parse_settings
from foveate.train.recipes import with_plan
from foveate.train.recipes.adafocus import AdaFocusPlan, AdaFocusTSMPlan, AdaFocusV2Plan
from foveate.train.stages import train_model
from foveate.video.transform import Augment
from foveate.weights.file import read_model
from test_docs_commands import commands

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
PLAN = AdaFocusPlan(
    glance_epochs=1, local_epochs=1, patch_epochs=1, policy_epochs=1, tune_epochs=1, patch_classifier=1.0,
    glance_rate=1e-3, local_rate=1e-3, patch_rate=1e-3, tune_rate=1e-3,
)  # fmt: skip
PLANS = {
    "adafocus_v2_small": AdaFocusV2Plan(),
    "adafocus_tsm_144": AdaFocusTSMPlan(
        **{k: v for k, v in vars(PLAN).items() if k in vars(AdaFocusTSMPlan())}
    ),
}
TRAIN = TrainConfig(batch=4, optimizer="adamw", reference_batch=None)


@pytest.fixture(scope="module")
def finished(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with all stages of AdaFocus finished."""
    out = tmp_path_factory.mktemp("finished")
    train_model(job(videos, out))
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def job(videos: Path, out: Path, model: str = "adafocus_small", *settings: str) -> TrainJob:
    return TrainJob(
        videos, out, model, val=videos, settings=(*NETS, *settings), workers=0, train=TRAIN,
        augment=Augment(crop="center"), plan=PLANS.get(model, PLAN),
    )  # fmt: skip


def only(whole: TrainJob, *names: str, **fields: object) -> TrainJob:
    return replace(whole, only=names, plan=replace(whole.plan, **fields))


def learnt(out: Path, stage: str) -> dict[str, Tensor]:
    """The weights at the end of a stage."""
    return load_checkpoint(out / stage / "last.ckpt")["state"]["model"]


def test_every_stage_runs_and_the_model_works(videos: Path, tmp_path: Path) -> None:
    model, outcome = train_model(job(videos, tmp_path, "adafocus_small", "skip=true"))
    stages = ["stage0", "stage0_local", "stage1", "stage2", "stage2_skip", "stage3"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == stages
    assert set(outcome.scores) >= {"top1", "n_ok", "top1_after_1"}
    assert outcome.scores["top1_after_2"] == outcome.scores["top1"]
    last = json.loads((tmp_path / "stage3" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["val_top1_after_1"] == outcome.scores["top1_after_1"]
    loaded, card = read_model(tmp_path / "best.safetensors")
    clip = torch.randn(1, 3, 2, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(loaded(clip), model.eval()(clip))
    assert card.labels == ("dark", "light")


def test_a_second_turn_starts_from_the_tuned_classifier(videos: Path, tmp_path: Path) -> None:
    whole = job(videos, tmp_path, "adafocus_small", "skip=true")
    train_model(replace(whole, plan=replace(PLAN, local_epochs=0, turns=2)))
    stages = ["stage0", "stage1", "stage2", "stage2_2", "stage2_skip", "stage3", "stage3_2"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == stages
    first, tuned, second = (learnt(tmp_path, name) for name in ("stage2", "stage3", "stage2_2"))
    classifier = "classifier.linear.weight"
    assert not torch.equal(first[classifier], tuned[classifier])
    assert torch.equal(tuned[classifier], second[classifier])


def test_the_next_stage_starts_from_averaged_weights(videos: Path, tmp_path: Path) -> None:
    whole = replace(job(videos, tmp_path), train=replace(TRAIN, ema=0.5))
    model, _ = train_model(whole)
    first = load_checkpoint(tmp_path / "stage0" / "last.ckpt")["state"]
    glance = {key: value for key, value in model.state_dict().items() if key.startswith("glance_head.")}
    assert all(torch.equal(value, first["ema"][key]) for key, value in glance.items())
    assert not torch.equal(first["ema"]["glance_head.weight"], first["model"]["glance_head.weight"])
    shutil.rmtree(tmp_path / "stage3")
    train_model(only(whole, "stage3"))
    again = read_model(tmp_path / "best.safetensors")[0].state_dict()
    assert all(torch.equal(value, again[key]) for key, value in glance.items())


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"settings": (*NETS, "dropout=0.1")}, "made with model.dropout 0.5, now it is 0.1"),
        ({"augment": Augment(crop="center", flip=0.0)}, "made with augment.flip"),
        ({"plan": replace(PLAN, warmup="frames")}, "made with stage0.of 'clip', now it is 'frames'"),
        ({"plan": replace(PLAN, reward="conf")}, "made with stage2.reward 'random', now it is 'conf'"),
        ({"plan": replace(PLAN, glance_dropout=0.5)}, "made with stage1.glance_dropout 0.0, now it is 0.5"),
    ],
)
def test_a_resumed_run_repeats_what_decides_on_the_weights(
    videos: Path, copied: Path, change: dict[str, object], cause: str
) -> None:
    with pytest.raises(UsageError, match=cause):
        train_model(replace(job(videos, copied), resume=True, **change))


def test_the_settings_beside_a_stage_run_the_whole_again(videos: Path, copied: Path) -> None:
    again = replace(read_job(copied / "stage1" / "config.yaml"), resume=True, out=copied)
    assert again == replace(job(videos, copied), resume=True)
    train_model(again)


def test_numbers_for_all_stages_are_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="each of its stages has epochs and a rate of its own"):
        train_model(replace(job(videos, tmp_path), train=replace(TRAIN, epochs=3)))


def test_resumed_stages_are_not_run_again(videos: Path, copied: Path) -> None:
    first, _ = read_model(copied / "best.safetensors")
    written = (copied / "stage1" / "metrics.jsonl").stat().st_mtime_ns
    again, _ = train_model(replace(job(videos, copied), resume=True))
    assert (copied / "stage1" / "metrics.jsonl").stat().st_mtime_ns == written
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)


def test_what_exits_were_judged_by_does_not_outlive_their_weights(videos: Path, copied: Path) -> None:
    shutil.copy(copied / "stage3" / "evaluation.npz", copied / "evaluation.npz")  # as the stage exits left it
    train_model(replace(only(job(videos, copied), "stage3"), resume=True))
    assert not (copied / "evaluation.npz").exists()


def test_stages_one_at_a_time_give_the_same(videos: Path, finished: Path, tmp_path: Path) -> None:
    whole, _ = read_model(finished / "best.safetensors")
    for name in ("stage0_local", "stage0", "stage1", "stage2", "stage3"):
        parts, _ = train_model(only(job(videos, tmp_path / "parts"), name))
    same = [torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)]
    assert all(same)


@pytest.mark.parametrize(
    ("name", "message"),
    [("stage2", "needs stage1, which was not run"), ("stage9", "no such stage")],
)
def test_a_stage_out_of_order_is_refused(videos: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train_model(only(job(videos, tmp_path), name))


def test_a_stage_that_is_run_again_is_not_undone_by_later_ones(videos: Path, copied: Path) -> None:
    shutil.rmtree(copied / "stage1")
    again, _ = train_model(only(job(videos, copied), "stage1", patch_rate=1e-2))
    for key, value in again.state_dict().items():
        assert torch.equal(value, learnt(copied, "stage1")[key]), key
    with pytest.raises(
        UsageError, match=r"stage3: needs stage2, whose result in .* older than that of stage1"
    ):
        train_model(replace(only(job(videos, copied), "stage1", "stage3"), resume=True))


def test_a_forerunner_that_was_broken_off_is_not_finished(videos: Path, copied: Path) -> None:
    path = copied / "stage2" / "last.ckpt"
    saved = load_checkpoint(path)
    saved["state"]["epoch"] = 0
    save_checkpoint(path, saved)
    shutil.rmtree(copied / "stage3")
    with pytest.raises(UsageError, match=r"stage2: was broken off in .* after 0 of 1 epochs"):
        train_model(only(job(videos, copied), "stage3"))
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="not a checkpoint"):
        train_model(only(job(videos, copied), "stage3"))


def test_adafocus_becomes_adafocus_plus(videos: Path, copied: Path) -> None:
    plus = job(videos, copied, "adafocus_small", "skip=true")
    with pytest.raises(UsageError, match="stage3: needs stage2_skip, which was not run"):
        train_model(replace(only(plus, "stage3"), resume=True))
    model, _ = train_model(only(plus, "stage2_skip"))
    assert torch.equal(model.policy.actor.weight, learnt(copied, "stage2")["policy.actor.weight"])


def test_a_start_may_lack_the_policies_that_training_makes_and_nothing_else(
    videos: Path, finished: Path, tmp_path: Path
) -> None:
    weights = str(finished / "best.safetensors")
    plus = replace(job(videos, tmp_path / "plus", "adafocus_small", "skip=true"), weights=weights)
    with pytest.raises(ModelFileError, match=r"differ in skip_policy"):
        train_model(only(plus, "stage3"))
    train_model(only(plus, "stage2_skip", "stage3"))
    assert read_model(tmp_path / "plus" / "best.safetensors")[0].skip_policy is not None
    blind = job(videos, tmp_path / "blind", "adafocus_small", "policy=random")
    train_model(only(replace(blind, weights=weights), "stage3"))
    seeing = replace(job(videos, tmp_path / "seeing"), weights=str(tmp_path / "blind" / "best.safetensors"))
    with pytest.raises(ModelFileError, match=r"differ in policy"):
        train_model(only(seeing, "stage3"))
    train_model(only(seeing, "stage2", "stage3"))
    assert "policy.actor.weight" in learnt(tmp_path / "seeing", "stage2")


def test_a_batch_without_a_readable_clip_is_passed_over(videos: Path, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.npy").write_bytes(b"no array")
    lines = videos.read_text().replace('"7.npy"', f'"{tmp_path}/broken.npy"')
    (videos.parent / "broken.jsonl").write_text(lines)
    train = replace(TRAIN, batch=1, max_bad_fraction=0.5)
    weights = str(finished / "best.safetensors")
    lame = replace(
        job(videos.parent / "broken.jsonl", tmp_path / "run"), val=None, weights=weights, train=train
    )
    train_model(only(lame, "stage2"))
    assert "broken.npy" in (tmp_path / "run" / "stage2" / "bad_files.jsonl").read_text()


def test_documented_commands_are_the_recipes_of_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[TrainJob] = []
    monkeypatch.setattr("foveate.cli.training.train_model", lambda job, _: (jobs.append(job), sys.exit(0)))
    for words in commands(Path(__file__).parents[1] / "docs/models/adafocus.md"):
        with pytest.raises(SystemExit) as left:
            main(shlex.split(words))
        assert left.value.code == 0, words
    rates = []
    for job_ in jobs:
        with torch.device("meta"):
            model = create_model(job_.model, 4, **parse_settings(job_.settings))
        whole, recipe = with_plan(job_)
        stages = {stage.name: stage for stage in recipe.stages(model, whole)}
        assert set(job_.only) <= {*stages, "exits"}
        last = list(stages.values())[-1]
        rates.append(last.rate * replace(job_.train, rate=last.rate).scale)
    assert rates[:3] == [5e-3, 0.002, 1e-3]  # at 64, 32 and 64 clips
    assert [getattr(job_.plan, "exit_frames", None) for job_ in jobs] == [None] * 5 + [8.0]


def test_v2_trains_in_one_stage(videos: Path, tmp_path: Path) -> None:
    whole = job(videos, tmp_path, "adafocus_v2_small", "classifier_width=8")
    train_model(replace(whole, train=replace(TRAIN, epochs=1, rate=1e-3)))
    assert (tmp_path / "best.safetensors").exists() and (tmp_path / "together").is_dir()


def test_tsm_form_trains_in_stages(videos: Path, tmp_path: Path) -> None:
    small = ("glance=resnet10", "local=resnet10", "glance_width=0.125", "local_width=0.125")
    frames = ("glance_frames=2", "local_frames=2", "pool=max")
    whole = job(videos, tmp_path, "adafocus_tsm_144", *small, *frames)
    train_model(whole)
    stages = ["stage0", "stage0_local", "stage1", "stage2", "stage3"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == stages
    alone = replace(whole, weights=str(tmp_path / "best.safetensors"), train=replace(TRAIN, batch=1))
    with pytest.raises(UsageError, match="stage2: 1 clip at once teaches a policy nothing"):
        train_model(only(replace(alone, out=tmp_path / "alone"), "stage2"))
