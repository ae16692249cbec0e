"""The loop: it learns, it stops, it goes on to the same bits, and it says what it could not read."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import train_child as toy
from foveate.config import read_yaml, to_dict
from foveate.errors import DataError, FoveateError, OutputError, UsageError
from foveate.infer.engine import EagerEngine
from foveate.layers.normalise import to_clip
from foveate.models.zoo import create_model
from foveate.train.checkpoint import load_checkpoint
from foveate.train.config import TrainConfig
from foveate.train.evaluate import Average, evaluate, measures, score
from foveate.train.loop import Outcome, fit
from foveate.train.objective import Classification, loss_function
from foveate.train.progress import Clock, Lines, Steps
from foveate.train.run import Run
from foveate.train.step import step_seed
from foveate.train.stop import Stopped, StopSignals

CHILD = Path(__file__).with_name("train_child.py")
LEARN = Classification()
CONFIG = TrainConfig(epochs=2, batch=4, reference_batch=None, rate=0.05, log_every=1, save_every=100)
NO_BAD = -1
pytestmark = pytest.mark.usefixtures("one_thread")


def train(
    folder: Path,
    config: TrainConfig = CONFIG,
    model: nn.Module | None = None,
    objective: Callable[..., dict[str, Tensor]] = LEARN,
    bad: int = NO_BAD,
    resume: bool = False,
    **options: Any,
) -> Outcome:
    """`fit` on the toy data, four clips a step."""
    size = config.part()
    with Run(folder, to_dict(config), resume) as run:
        return fit(
            model or toy.make_model(),
            lambda epoch, start: toy.batches_of(epoch, start, size, bad=bad),
            objective,
            config,
            run,
            batches_per_epoch=toy.VIDEOS // size,
            **options,
        )


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def toy_scores(model: nn.Module) -> dict[str, float]:
    return evaluate(EagerEngine(model), [toy.clips_of(list(range(12)), epoch=5, bad=NO_BAD)], toy.CLASSES)


# learning


def test_it_learns(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=15, optimizer="adamw", rate=0.03, warmup_epochs=1)
    outcome = train(tmp_path, config, toy.make_model(plain=True), evaluate=toy_scores)
    assert outcome.scores["top1"] == 1.0
    losses = [record["loss"] for record in records(tmp_path, "epoch")]
    assert len(losses) == 15
    assert losses[-1] < 0.5 * losses[0]


def plain_weights(folder: Path, config: TrainConfig) -> Tensor:
    model = toy.make_model(plain=True)
    train(folder, config, model)
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def test_accumulated_parts_are_one_batch(tmp_path: Path) -> None:
    whole = plain_weights(tmp_path / "a", CONFIG)
    parts = plain_weights(tmp_path / "b", dataclasses.replace(CONFIG, accumulate=4))
    assert torch.allclose(whole, parts, atol=1e-6)
    assert not torch.equal(whole, nn.utils.parameters_to_vector(toy.make_model(plain=True).parameters()))


def test_a_bad_file_leaves_the_mean_of_the_others(tmp_path: Path) -> None:
    """One step over parts of unequal size is one step over all their clips."""
    config = dataclasses.replace(CONFIG, epochs=1, batch=24, accumulate=6, max_bad_fraction=0.1)
    parts, whole = toy.make_model(plain=True), toy.make_model(plain=True)
    train(tmp_path / "a", config, parts, bad=toy.BAD)
    train(tmp_path / "b", dataclasses.replace(config, accumulate=1), whole, bad=toy.BAD)
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_frozen_parts_stay_to_the_bit(tmp_path: Path) -> None:
    """A stage that trains the head alone: no weight, statistic or dropout of the body changes."""
    model = toy.make_model()
    model.body.requires_grad_(False)
    body = {name: value.clone() for name, value in model.body.state_dict().items()}
    head = model.head.weight.clone()
    train(tmp_path, model=model)
    assert all(torch.equal(value, body[name]) for name, value in model.body.state_dict().items())
    assert not torch.equal(model.head.weight, head)


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG, epochs=1, batch=24, rate=1.0, momentum=0, weight_decay=0, clip_norm=1e-3, schedule="constant"
    )
    before = nn.utils.parameters_to_vector(toy.make_model(plain=True).parameters())
    moved = (plain_weights(tmp_path, config) - before).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    "change", [{"precision": "bf16"}, {"optimizer": "adamw", "rate": 0.01}, {"ema": 0.5}]
)
def test_other_ways_learn_too(tmp_path: Path, change: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, epochs=4, **change)
    train(tmp_path, config, toy.make_model(plain=True))
    losses = [record["loss"] for record in records(tmp_path, "epoch")]
    assert losses[-1] < losses[0]


def test_fp16_needs_cuda(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"precision: fp16 does not train on cpu \(use bf16"):
        train(tmp_path, dataclasses.replace(CONFIG, precision="fp16"))


def test_averaged_weights_are_judged_and_kept(tmp_path: Path) -> None:
    judged: list[nn.Module] = []
    kept: list[nn.Module] = []

    def judge(model: nn.Module) -> dict[str, float]:
        judged.append(model)
        return {"top1": float(len(judged) != 2)}  # the second of three epochs is worse

    config = dataclasses.replace(CONFIG, epochs=3, ema=0.9)
    model = toy.make_model()
    outcome = train(tmp_path, config, model, evaluate=judge, save_best=lambda best, path: kept.append(best))
    assert outcome.model is judged[0] is kept[0] is not model
    assert (len(judged), len(kept), outcome.best) == (3, 1, 1.0)


def test_evaluation_every_second_epoch_and_at_the_end(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=5, eval_every=2)
    train(tmp_path, config, evaluate=toy_scores)
    assert ["val_top1" in record for record in records(tmp_path, "epoch")] == [False, True, False, True, True]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_precise_statistics_are_judged_and_nothing_else_is_touched(tmp_path: Path, ema: float) -> None:
    """The judged norm knows the mean of what stands in front of it, in training clips of that epoch."""
    config = dataclasses.replace(CONFIG, ema=ema, precise_bn=2)
    means: list[Tensor] = []

    def judge(model: toy.Toy) -> dict[str, float]:
        clips = [
            to_clip(batch.frames[:, 0], toy.SPEC)
            for batch in islice(toy.batches_of(len(means), 0, 4, bad=NO_BAD), 2)
        ]
        with torch.no_grad():
            seen = [model.body[0](clip.mean(2)).mean((0, 2, 3)) for clip in clips]
        means.append(torch.stack(seen).mean(0))
        assert torch.allclose(model.norm.running_mean, means[-1], atol=1e-5)
        return toy_scores(model)

    precise, plain = toy.make_model(), toy.make_model()
    outcome = train(tmp_path / "a", config, precise, evaluate=judge)
    usual = train(tmp_path / "b", dataclasses.replace(config, precise_bn=0), plain, evaluate=toy_scores)
    assert len(means) == 2
    for one, other in ((precise, plain), (outcome.model, usual.model)):
        for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_frozen_norms_keep_their_statistics(tmp_path: Path) -> None:
    model = toy.make_model()
    model.body.requires_grad_(False)
    train(tmp_path, dataclasses.replace(CONFIG, precise_bn=2), model, evaluate=toy_scores)
    assert not model.norm.running_mean.any()


def test_a_wrong_monitor_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"monitor: topl is not measured \(did you mean .*top1"):
        train(tmp_path, dataclasses.replace(CONFIG, monitor="topl"), evaluate=toy_scores)


def test_chance_is_drawn_anew_for_each_step_and_process() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(3) for step in range(50) for rank in range(4)}
    assert len(seeds) == 600
    assert step_seed(1, 2, 3) == step_seed(1, 2, 3)


# objectives


def test_losses_against_their_formulas() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 2, 2])
    log_p = logits.log_softmax(1)
    own = log_p.gather(1, labels[:, None]).squeeze(1)
    smooth = -(0.9 * own + 0.1 * log_p.mean(1)).mean()
    assert torch.allclose(loss_function("cross_entropy", 0.1)(logits, labels), smooth)
    many = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]]).float()
    share = many / many.sum(1, keepdim=True).clamp(min=1)
    assert torch.allclose(loss_function("soft_cross_entropy")(logits, many), -(share * log_p).sum(1).mean())
    p = logits.sigmoid()
    bce = -(many * p.log() + (1 - many) * (1 - p).log()).mean()
    assert torch.allclose(loss_function("bce")(logits, many), bce)


def test_each_view_is_a_clip_of_its_own() -> None:
    model, objective = toy.make_model(plain=True), Classification()
    batch = toy.clips_of([0, 1, 2], views=2)
    flat = dataclasses.replace(
        batch, frames=batch.frames.flatten(0, 1).unsqueeze(1), labels=batch.labels.repeat_interleave(2)
    )
    assert torch.allclose(objective(model, batch)["loss"], objective(model, flat)["loss"])


# evaluation


def test_scores_are_means_over_views_in_any_chunk() -> None:
    model = toy.make_model().eval()
    batch = toy.clips_of([3, 0, 1], views=4)
    scored = score(EagerEngine(model), [batch], clips_at_once=3)
    assert scored.indices.tolist() == [0, 1, 3]
    views = [
        score(EagerEngine(model), [dataclasses.replace(batch, frames=batch.frames[:, v : v + 1])])
        for v in range(4)
    ]
    assert torch.allclose(scored.scores, torch.stack([view.scores for view in views]).mean(0), atol=1e-6)
    shares = score(EagerEngine(model), [batch], average="softmax").scores
    assert torch.allclose(shares, torch.stack([view.scores.softmax(1) for view in views]).mean(0), atol=1e-6)
    assert torch.allclose(shares.sum(1), torch.ones(3))


def test_scores_are_maxima_where_any_view_may_show_it() -> None:
    model, batch = toy.make_model().eval(), toy.clips_of([3, 0, 1], views=4)
    views = [
        score(EagerEngine(model), [dataclasses.replace(batch, frames=batch.frames[:, v : v + 1])])
        for v in range(4)
    ]
    best = torch.stack([view.scores.sigmoid() for view in views]).amax(0)
    found = score(EagerEngine(model), [batch], average="sigmoid", ensemble="max").scores
    assert torch.allclose(found, best, atol=1e-6)


@pytest.mark.parametrize("average", ["logits", "softmax"])
def test_the_windows_of_a_large_crop_are_joined_as_their_releases_do(average: Average) -> None:
    torch.manual_seed(0)
    model = create_model("slow_small", 3, width=0.0625, frames=2, size=80, resize=80, window=4).eval()
    frames = torch.randint(0, 256, (2, 1, 2, 80, 80, 3), dtype=torch.uint8)
    batch = dataclasses.replace(toy.clips_of([0, 1]), frames=frames)
    with torch.inference_mode():
        output = model.output(to_clip(frames[:, 0], model.spec))
    windows = output.position_logits
    assert windows is not None and windows.shape == (2, 4, 3)
    expected = windows.softmax(-1).mean(1) if average == "softmax" else output.logits
    assert torch.allclose(score(EagerEngine(model), [batch], average=average).scores, expected, atol=1e-6)


def test_a_bad_file_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    found = evaluate(EagerEngine(toy.make_model()), [toy.clips_of([4, 5]), toy.clips_of([5])], toy.CLASSES)
    assert (found["n_ok"], found["n_total"]) == (1, 3)
    assert found["absent"] == 2
    assert "video5.mp4: no moov" in caplog.text
    with pytest.raises(DataError, match=r"no video could be read \(1 failed\)"):
        evaluate(EagerEngine(toy.make_model()), [toy.clips_of([5])], toy.CLASSES)


def test_several_labels_are_judged_by_precision() -> None:
    batch = toy.clips_of(list(range(9)), bad=NO_BAD)
    many = nn.functional.one_hot(batch.labels, toy.CLASSES).float()
    found = evaluate(
        EagerEngine(toy.make_model()),
        [dataclasses.replace(batch, labels=many)],
        toy.CLASSES,
        multi_label=True,
    )
    single = evaluate(EagerEngine(toy.make_model()), [batch], toy.CLASSES)
    assert found["top1"] == single["top1"]
    assert 0 < found["mAP"] <= 1


def test_what_cannot_be_judged_is_said() -> None:
    model = toy.make_model()
    batch = toy.clips_of([0, 1])
    with pytest.raises(FoveateError, match="3 scores, the list has 4 classes"):
        measures(score(EagerEngine(model), [batch]), 4)
    with pytest.raises(DataError, match="1 videos have no label"):
        evaluate(EagerEngine(model), [dataclasses.replace(batch, labels=torch.tensor([0, -1]))], 3)
    nn.init.constant_(model.head.bias, math.nan)
    with pytest.raises(FoveateError, match="scores of video 0 of the list are not finite"):
        score(EagerEngine(model), [batch])


# faults


def spoilt_at(step: int, value: float) -> Callable[[nn.Module, toy.Clips], dict[str, Tensor]]:
    """The usual loss, but times `value` in one call."""
    calls = 0

    def objective(model: nn.Module, batch: toy.Clips) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        values = LEARN(model, batch)
        return {"loss": values["loss"] * (value if calls == step + 1 else 1.0)}

    return objective


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_step(tmp_path: Path, value: float) -> None:
    config = dataclasses.replace(CONFIG, save_every=2)
    model = toy.make_model()
    with pytest.raises(UsageError, match=rf"step 5 \(epoch 0\): the loss is {value} \(lower the rate"):
        train(tmp_path, config, model, spoilt_at(5, value))
    saved = load_checkpoint(tmp_path / "last.ckpt")["state"]
    assert saved["step"] == 4
    assert all(value.isfinite().all() for value in saved["model"].values())
    assert all(param.isfinite().all() for param in model.parameters())


class Overflow(torch.autograd.Function):
    """Finite forward, infinite backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope * math.inf


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path: Path) -> None:
    def objective(model: nn.Module, batch: toy.Clips) -> dict[str, Tensor]:
        return {"loss": Overflow.apply(LEARN(model, batch)["loss"])}

    model = toy.make_model(plain=True)
    with pytest.raises(UsageError, match=r"step 0 \(epoch 0\): the gradient is"):
        train(tmp_path, model=model, objective=objective)
    assert all(param.isfinite().all() for param in model.parameters())


def test_spoilt_weights_are_not_saved(tmp_path: Path) -> None:
    def objective(model: toy.Toy, batch: toy.Clips) -> dict[str, Tensor]:
        values = LEARN(model, batch)
        model.norm.running_var.data.fill_(math.inf)  # which nothing in train mode reads
        return values

    with pytest.raises(UsageError, match=r"norm\.running_var is not finite"):
        train(tmp_path, objective=objective)
    assert load_checkpoint(tmp_path / "last.ckpt")["state"]["step"] == 0


def test_bad_files_are_listed_once_and_counted_each_epoch(tmp_path: Path) -> None:
    train(tmp_path, dataclasses.replace(CONFIG, max_bad_fraction=0.1), bad=toy.BAD)
    lines = [json.loads(line) for line in (tmp_path / "bad_files.jsonl").read_text().splitlines()]
    assert lines == [{"path": "video5.mp4", "cause": "no moov"}]
    for record in records(tmp_path, "epoch"):
        assert (record["samples"], record["bad"]) == (toy.VIDEOS - 1, 1)


def test_too_many_bad_files_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"bad_files\.jsonl: 1 of 24 videos of epoch 0 cannot be read, more than 0 "
    ) as caught:
        train(tmp_path, dataclasses.replace(CONFIG, max_bad_fraction=0), bad=toy.BAD)
    assert caught.value.exit_code == 3
    assert "video5.mp4" in (tmp_path / "bad_files.jsonl").read_text()


def test_a_batch_of_bad_files_only_teaches_nothing(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=1, batch=1, max_bad_fraction=0.1)
    outcome = train(tmp_path, config, bad=toy.BAD)
    assert outcome.steps == toy.VIDEOS
    assert sum("loss" in record for record in records(tmp_path, "step")) == toy.VIDEOS - 1


def test_too_large_a_batch_names_its_size(tmp_path: Path) -> None:
    def greedy(model: nn.Module, batch: toy.Clips) -> dict[str, Tensor]:
        return {"loss": torch.empty(1 << 50).sum()}

    with pytest.raises(FoveateError, match=r"batch: too little memory for 4 clips at once \(lower batch"):
        train(tmp_path, objective=greedy)


def test_no_batch_is_an_error(tmp_path: Path) -> None:
    with Run(tmp_path, {}) as run, pytest.raises(DataError, match="gives no batch"):
        fit(toy.make_model(), lambda e, s: [], Classification(), CONFIG, run, batches_per_epoch=0)


# the run folder


def test_the_folder_tells_the_run(tmp_path: Path) -> None:
    train(tmp_path, evaluate=toy_scores, save_best=lambda model, path: path.touch())
    assert {path.name for path in tmp_path.iterdir()} == {
        ".lock", "config.yaml", "metrics.jsonl", "starts.jsonl", "last.ckpt", "best.safetensors",
    }  # fmt: skip
    assert read_yaml(tmp_path / "config.yaml") == to_dict(CONFIG)
    steps = records(tmp_path, "step")
    assert [record["step"] for record in steps] == list(range(1, 13))
    assert all(0 <= record["data_wait_share"] <= 1 and record["samples_per_s"] > 0 for record in steps)
    assert [record["lr"] for record in steps] == sorted((record["lr"] for record in steps), reverse=True)
    assert [record["step"] for record in records(tmp_path, "epoch")] == [6, 12]


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    with Run(tmp_path, {}):
        with pytest.raises(UsageError, match="another run is writing this folder"), Run(tmp_path, {}):
            pass
        with pytest.raises(UsageError, match="another run is writing"), Run(tmp_path, {}, resume=True):
            pass
    with Run(tmp_path, {}, resume=True) as free:
        assert not free.resumes  # nothing was saved


def test_a_finished_run_is_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path)
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(UsageError, match=r"holds a run already \(add --resume"):
        train(tmp_path)
    assert (tmp_path / "last.ckpt").read_bytes() == before
    with Run(tmp_path, {}, resume=True):  # the refusal gave the lock back
        pass


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run to resume"):
        train(tmp_path / "typo", resume=True)
    assert not (tmp_path / "typo").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        train(tmp_path / "file" / "run")


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    with Run(tmp_path, {}) as run:
        run.record({"kind": "epoch", "val_mAP": math.nan, "loss": math.inf, "step": 1})
    assert json.loads(run.metrics.read_text()) == {"kind": "epoch", "val_mAP": None, "loss": None, "step": 1}


# resuming


def reference(folder: Path) -> str:
    """The digest of the child's training, never disturbed."""
    return toy.train(folder, resume=False, at=0, signum=0, plain=False)


def child(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHILD), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_killed_thrice_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = reference(tmp_path / "whole")
    chance = random.Random(5)
    killed = tmp_path / "killed"
    for attempt in range(3):
        at = chance.randint(5, 12)  # forward passes, two a step; 36 in all
        done = child(killed, "--at", str(at), *(["--resume"] if attempt else []))
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert toy.train(killed, resume=True, at=0, signum=0, plain=False) == whole
    assert toy.untimed(killed) == toy.untimed(tmp_path / "whole")
    assert (killed / "bad_files.jsonl").read_text() == (tmp_path / "whole" / "bad_files.jsonl").read_text()


def test_a_signal_finishes_the_step_and_saves(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    done = child(stopped, "--at", "9", "--by", "SIGTERM")
    assert done.returncode == 143
    assert (
        "last.ckpt: stopped by SIGTERM after step 5; everything is saved (continue with --re" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert load_checkpoint(stopped / "last.ckpt")["state"]["step"] == 5
    whole = reference(tmp_path / "whole")
    assert toy.train(stopped, resume=True, at=0, signum=0, plain=False) == whole
    assert toy.untimed(stopped) == toy.untimed(tmp_path / "whole")


def test_a_second_signal_ends_at_once() -> None:
    process = os.fork()
    if not process:
        with StopSignals():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 143


def test_a_signal_that_comes_too_late_for_a_step_is_not_forgotten() -> None:
    process = os.fork()
    if not process:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with StopSignals():
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGTERM


def test_a_signal_in_the_evaluation_does_not_wait_for_its_end(tmp_path: Path) -> None:
    def slow(model: nn.Module) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the evaluation went on")

    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    with pytest.raises(Stopped, match="stopped by SIGINT after step 6") as caught:
        train(tmp_path / "a", evaluate=slow)
    assert caught.value.exit_code == 130
    resumed = train(tmp_path / "a", resume=True, evaluate=toy_scores)
    whole = train(tmp_path / "b", evaluate=toy_scores)
    assert toy.digest(resumed.model) == toy.digest(whole.model)
    assert toy.untimed(tmp_path / "a") == toy.untimed(tmp_path / "b")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_stop_among_precise_statistics_changes_no_bit(tmp_path: Path, ema: float) -> None:
    config = dataclasses.replace(CONFIG, ema=ema, precise_bn=3)
    calls = 0

    def stopping(model: nn.Module, batch: toy.Clips) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == 8:  # 6 of the epoch, then those of the statistics
            os.kill(os.getpid(), signal.SIGINT)
        return LEARN(model, batch)

    with pytest.raises(Stopped, match="after step 6"):
        train(tmp_path / "a", config, objective=stopping, evaluate=toy_scores)
    stopped, whole = toy.make_model(), toy.make_model()
    resumed = train(tmp_path / "a", config, stopped, resume=True, evaluate=toy_scores)
    straight = train(tmp_path / "b", config, whole, evaluate=toy_scores)
    assert toy.digest(stopped) == toy.digest(whole)
    assert toy.digest(resumed.model) == toy.digest(straight.model)
    assert toy.untimed(tmp_path / "a") == toy.untimed(tmp_path / "b")


def test_a_death_between_saving_and_judging_repeats_no_record(tmp_path: Path) -> None:
    """The checkpoint of the last step of an epoch is written before the epoch's own record."""
    config = dataclasses.replace(CONFIG, save_every=6)

    class Died(Exception):
        pass

    def die(model: nn.Module, path: Path) -> None:
        raise Died

    with pytest.raises(Died):
        train(tmp_path, config, evaluate=toy_scores, save_best=die)
    assert len(records(tmp_path, "epoch")) == 1
    train(tmp_path, config, resume=True, evaluate=toy_scores)
    assert [record["step"] for record in records(tmp_path, "epoch")] == [6, 12]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first = train(tmp_path, evaluate=toy_scores)
    lines = (tmp_path / "metrics.jsonl").read_text()
    again = train(tmp_path, model=toy.make_model(seed=3), resume=True, evaluate=toy_scores)
    assert toy.digest(again.model) == toy.digest(first.model)
    assert (again.steps, again.best, again.scores) == (first.steps, first.best, first.scores)
    assert (tmp_path / "metrics.jsonl").read_text() == lines


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"rate": 0.06}, {}, "made with rate 0.05, now it is 0.06 (add --extend to change it"),
        ({"epochs": 3}, {}, "made with epochs 2, now it is 3 (add --extend to change it"),
        ({"batch": 2}, {}, "made with batch 4, now it is 2"),
        ({}, {"fingerprint": "other list"}, "made with data '', now it is 'other list'"),
    ],
)
def test_another_run_is_not_resumed(
    tmp_path: Path, change: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    train(tmp_path)
    with pytest.raises(UsageError) as caught:
        train(tmp_path, dataclasses.replace(CONFIG, **change), resume=True, **options)
    assert words in str(caught.value)


def test_other_book_keeping_may_be_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path)
    torch.set_num_threads(2)
    train(tmp_path, dataclasses.replace(CONFIG, log_every=5, save_every=7), resume=True)
    assert "threads was 1, now 2: the result can differ in the last bits" in caplog.text


# several processes


def two_children(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [*torchrun, str(CHILD), str(folder), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


def weights(folder: Path) -> list[Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Equal weights on both (asserted in the child), and those of one process with the same batches."""
    one, two = tmp_path / "one", tmp_path / "two"
    done = two_children(two, "--plain")
    assert done.returncode == 0, done.stderr
    toy.train(one, resume=False, at=0, signum=0, plain=True)
    for mine, other in zip(weights(one), weights(two), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
    for mine, other in zip(records(one, "epoch"), records(two, "epoch"), strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert (mine["samples"], mine["bad"], mine["val_n_ok"]) == (23, 1, 23)


@pytest.mark.stress
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_one_of_two_processes_is_hit(tmp_path: Path, name: str) -> None:
    """A batch norm, dropout and a bad file on two processes: resumed, the pair ends with the same bits."""
    assert two_children(tmp_path / "whole").returncode == 0
    for attempt in range(3):
        done = two_children(tmp_path / "hit", "--at", "9", "--by", name, *(["--resume"] if attempt else []))
        assert done.returncode != 0
        assert name != "SIGTERM" or "stopped by SIGTERM after step" in done.stderr
    done = two_children(tmp_path / "hit", "--resume")
    assert done.returncode == 0, done.stderr
    assert all(map(torch.equal, weights(tmp_path / "hit"), weights(tmp_path / "whole")))
    assert toy.untimed(tmp_path / "hit") == toy.untimed(tmp_path / "whole")


# what is shown


def test_plain_lines_without_a_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "foveate"):
        train(tmp_path, dataclasses.replace(CONFIG, log_every=6))
    lines = [record.getMessage() for record in caplog.records if "loss" in record.getMessage()]
    assert [line.split(":")[0] for line in lines] == [
        "epoch 1 of 2, step 6 of 12",
        "epoch 2 of 2, step 12 of 12",
    ]
    assert re.search(r"\(\d+ s left, peak memory \d+ MB\)$", lines[0])
    assert re.search(r"\(peak memory \d+ MB\)$", lines[1])


def test_a_plain_line_now_and_then(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first within a minute, however slow a step is, then one a minute; none for each step."""
    now = [0.0]
    monkeypatch.setattr("foveate.train.progress.time.monotonic", lambda: now[0])
    lines = Lines(dataclasses.replace(CONFIG, epochs=4), Steps(400, done=100), torch.device("cpu"))
    with caplog.at_level(logging.INFO, "foveate"):
        for step in range(101, 201):
            now[0] += 2
            lines.advance(step)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in said] == [
        "epoch 2 of 4, step 105 of 400", "epoch 2 of 4, step 135 of 400", "epoch 2 of 4, step 165 of 400",
        "epoch 2 of 4, step 195 of 400",
    ]  # fmt: skip
    assert "10 min left" in said[0] and "7 min left" in said[-1]


def test_time_left_is_that_of_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("foveate.train.progress.time.monotonic", lambda: now[0])
    clock = Clock(Steps(total=100, done=20, later=300))
    now[0] = 120.0
    assert clock.left(60) == 3.0 * (40 + 300)  # 40 steps in 120 s
    assert clock.left(100) == 1.5 * 300


def test_a_bar_with_the_time_left_on_a_terminal(tmp_path: Path) -> None:
    out = StringIO()
    train(tmp_path, console=Console(file=out, force_terminal=True, width=160))
    assert "12/12" in out.getvalue()
    assert "0 s left" in out.getvalue()
    assert "epoch 2 of 2: loss" in out.getvalue()
    assert "peak memory" in out.getvalue()


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(UsageError, match=r"tensorboard: is not installed \(pip install tensorboard\)"):
        train(tmp_path, dataclasses.replace(CONFIG, tensorboard=True))
