"""What is bound to come to harm is said, or refused, before a training begins."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from foveate.cli import main
from foveate.cli.training import read_job, train_command
from foveate.clip import ClipSpec
from foveate.data.class_names import KNOWN, read_class_names
from foveate.data.dataset import EpochSampler, VideoDataset
from foveate.data.guards import check_openable, list_warnings, shared_videos
from foveate.data.lists import VideoEntry, VideoList, read_list
from foveate.data.sides import sided_classes
from foveate.data.split import split_videos
from foveate.errors import DataError, UsageError
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob, prepare, without_flip
from foveate.train.objective import balanced_weights, loss_function
from foveate.train.stages import train_model
from foveate.video.transform import Augment

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = ("width=0.125", "size=32", "resize=32", "frames=2")
CONFIG = TrainConfig(epochs=1, batch=4, reference_batch=None)

SIDED = [
    ("pan left", "pan right"),
    ("TurnLeft", "go", "TurnRight"),
    ("swipe_L", "swipe_R"),
    ("links abbiegen", "rechts abbiegen"),
    ("tourner à gauche", "tourner à droite"),
    ("girar a la izquierda", "girar a la derecha"),
    ("girare a sinistra", "girare a destra"),
    ("virar à esquerda", "virar à direita"),
    ("поворот налево", "поворот направо"),
    ("向左转", "向右转"),
    ("左折", "右折"),
    ("왼쪽", "오른쪽"),
    ("يسار", "يمين"),
    ("sola dön", "sağa dön"),
    ("Clockwise", "Counter-clockwise"),
    ("rotate cw", "rotate ccw"),
    ("im Uhrzeigersinn", "gegen den Uhrzeigersinn"),
    ("moving something from left to right",),
    ("turn +90", "turn -90"),
    ("90 degrees", "270 degrees"),
    ("3 o'clock", "9 o'clock"),
    ("←", "→"),
    ("pan up", "pan down"),
]
UNSIDED = [
    ("run", "walk"),
    ("stand up", "sit down"),
    ("turn left", "go straight"),
    ("leftovers", "righteous"),
    ("0", "1", "2"),
    ("L", "R", "A"),
    ("kick-1", "kick-2"),
    ("rotate 30 degrees", "rotate 60 degrees"),
    (),
]


@pytest.mark.parametrize("names", SIDED)
def test_names_that_tell_sides_are_found(names: Sequence[str]) -> None:
    found = sided_classes(names)
    assert found and set(found) <= set(names)


@pytest.mark.parametrize("names", UNSIDED)
def test_other_names_do_not_turn_the_flip_off(names: Sequence[str]) -> None:
    assert sided_classes(names) == ()


def test_public_data_sets_that_are_not_mirrored() -> None:
    sided = {name for name in KNOWN if sided_classes(read_class_names(name))}
    assert sided == {"jester27", "something_v1", "something_v2"}


def make_list(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """A folder with so many different arrays of each class."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            np.save(folder / name / f"{number}.npy", rng.integers(0, 255, (2, 32, 32, 3)).astype(np.uint8))
    return folder


def job_of(videos: Path, out: Path, **changes: object) -> TrainJob:
    job = TrainJob(videos, out, model="tsn_r10_8", settings=SETTINGS, workers=0, train=CONFIG)
    return replace(job, **changes)


def test_training_does_not_mirror_sides_unless_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = make_list(tmp_path / "v", {"pan left": 4, "pan right": 4})
    caplog.set_level(logging.WARNING, "foveate")
    job = job_of(videos, tmp_path / "run")
    train_model(job)
    (line,) = (line for line in caplog.messages if "mirror" in line)
    assert line.startswith("clips are not mirrored: 'pan left' and 'pan right' tell sides apart (--flip")
    assert read_job(job.out / "config.yaml").augment == Augment(flip=False)
    train_model(replace(job, resume=True))  # by the same decision
    asked = replace(job, augment=Augment(flip_sides=True))
    assert without_flip(asked, read_list(videos)) == (asked, "")
    plain = make_list(tmp_path / "w", {"run": 1, "walk": 1})
    assert without_flip(job, read_list(plain)) == (job, "")
    words = ["--model", "tsn_r10_8", "--flip"]
    assert train_command(words).__defaults__[0].augment.flip_sides  # type: ignore[index]
    assert not train_command(words[:2]).__defaults__[0].augment.flip_sides  # type: ignore[index]


def test_a_run_that_began_with_mirrored_sides_keeps_them(tmp_path: Path) -> None:
    job = job_of(make_list(tmp_path / "v", {"left": 4, "right": 4}), tmp_path / "run")
    job.out.mkdir()
    (job.out / "config.yaml").write_text("augment: {flip: true}\n")
    resumed = replace(job, resume=True)
    assert without_flip(resumed, read_list(job.videos)) == (resumed, "")


def test_signs_of_harm_in_lists_are_said_in_a_line_each(tmp_path: Path) -> None:
    entries = [VideoEntry(f"{number}.npy", (int(number > 11),)) for number in range(13)]
    train = VideoList(tuple(entries), ("a", "b", "c"), "jsonl")
    val = VideoList((VideoEntry("x.npy", (2,)), VideoEntry("0.npy", (0,))), ("a", "b", "c"), "jsonl")
    lines = list_warnings(train, val)
    for words in (
        "1 of 3 classes have no video: c",
        "1 of 3 classes have fewer than 5 videos: b",
        "classes are uneven, 12 to 1 videos (try --sampler balanced)",
        "1 of 2 validation videos are in the training list too, the first 0.npy",
        "validation has classes without a training video: c",
    ):
        assert sum(words in line for line in lines) == 1, (words, lines)
    assert len(lines) == 5 and all(len(line) < 300 and "\n" not in line for line in lines)
    one = replace(train, entries=train.entries[:12], class_names=("a",))
    assert list_warnings(one) == ["all 12 videos are of one class, a: nothing can be learnt from that"]
    even = replace(train, entries=tuple(replace(e, labels=(i % 2,)) for i, e in enumerate(entries)))
    assert list_warnings(replace(even, class_names=("a", "b"))) == []


def test_videos_of_both_lists_are_found_by_their_content(tmp_path: Path) -> None:
    train = read_list(make_list(tmp_path / "t", {"a": 3, "b": 3}))
    folder = make_list(tmp_path / "v", {"a": 2, "b": 2}, seed=1)
    assert shared_videos(train, read_list(folder)) == []
    shutil.copy(tmp_path / "t/a/1.npy", folder / "a/copy.npy")
    shared = shared_videos(train, read_list(folder))
    assert [os.path.basename(entry.path) for entry in shared] == ["copy.npy"]
    parts = [VideoEntry("x.mp4", (0,), start=0, end=9), VideoEntry("x.mp4", (0,), start=9, end=20)]
    one, other = (replace(train, entries=(part,)) for part in parts)
    assert shared_videos(one, other) == [] and shared_videos(one, one) == parts[:1]


def test_a_share_is_kept_for_validation_by_class(tmp_path: Path) -> None:
    videos = read_list(make_list(tmp_path / "v", {"a": 10, "b": 5, "c": 1}))
    train, val = split_videos(videos, 0.2, seed=0)
    assert Counter(entry.labels for entry in val.entries) == {(0,): 2, (1,): 1}
    assert {*train.entries, *val.entries} == {*videos.entries}
    turned = replace(videos, entries=videos.entries[::-1])
    assert {*split_videos(turned, 0.2, 0)[1].entries} == {*val.entries}
    moved = read_list(shutil.copytree(tmp_path / "v", tmp_path / "deep/er/v"))
    there = split_videos(moved, 0.2, 0)[1]
    assert [Path(e.path).parts[-2:] for e in there.entries] == [Path(e.path).parts[-2:] for e in val.entries]
    assert any({*split_videos(videos, 0.2, seed)[1].entries} != {*val.entries} for seed in range(1, 5))
    parts = [VideoEntry(f"{n // 2}.mp4", (0,), start_s=n % 2, end_s=n % 2 + 1) for n in range(20)]
    halves = split_videos(replace(videos, entries=tuple(parts)), 0.3, 0)
    assert not {e.path for e in halves[0].entries} & {e.path for e in halves[1].entries}


def test_a_share_is_written_to_the_run_folder_and_resumed(tmp_path: Path) -> None:
    job = job_of(make_list(tmp_path / "v", {"a": 10, "b": 10}), tmp_path / "run", val_share=0.2)
    _, outcome = train_model(job)
    assert outcome.scores["n_total"] == 4
    train, val = (read_list(job.out / f"{name}.jsonl") for name in ("train", "val"))
    assert (len(train), len(val), val.class_names) == (16, 4, ("a", "b"))
    train_model(replace(job, resume=True))
    for wrong in ({"val_share": 1.5}, {"val": job.videos}):
        with pytest.raises(UsageError, match="--val-share"):
            prepare(replace(job, **wrong))


@pytest.mark.parametrize("loss", ["cross_entropy", "soft_cross_entropy", "bce"])
def test_equal_weights_change_nothing_and_balanced_ones_even_classes_out(loss: str) -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    target = labels if loss == "cross_entropy" else F.one_hot(labels, 3)
    plain = loss_function(loss, 0.1)(logits, target)  # type: ignore[arg-type]
    assert torch.allclose(loss_function(loss, 0.1, (1.0, 1.0, 1.0))(logits, target), plain)  # type: ignore[arg-type]
    weights = balanced_weights([4, 1, 1])
    assert weights == (0.5, 2.0, 2.0)
    if loss == "cross_entropy":
        each = F.cross_entropy(logits, labels, reduction="none")
        expected = torch.stack([each[labels == label].mean() for label in range(3)]).mean()
        assert torch.allclose(loss_function(loss, 0.0, weights)(logits, labels), expected)


def test_a_balanced_epoch_has_every_class_as_often_and_is_stateless() -> None:
    classes = [0] * 20 + [1] * 5 + [2] * 2
    items = list(EpochSampler(27, 3, seed=1, classes=classes))
    assert Counter(classes[item[1]] for item in items) == {0: 9, 1: 9, 2: 9}
    assert len(items) == len(set(items)) == 27  # a video that comes again is another clip
    assert max(Counter(index for _, index, *_ in items if classes[index] == 0).values()) == 1
    assert list(EpochSampler(27, 3, seed=1, classes=classes, start=7)) == items[7:]
    shares = [list(EpochSampler(27, 3, seed=1, classes=classes, rank=rank, world=3)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert list(EpochSampler(27, 4, seed=1, classes=classes)) != items


def test_a_video_that_comes_again_in_an_epoch_is_cut_differently(tmp_path: Path) -> None:
    videos = read_list(make_list(tmp_path / "v", {"a": 1, "b": 1}))
    spec = ClipSpec(frames=2, size=16, resize=20)
    data = VideoDataset(videos.entries, spec, 2, augment=Augment(crop="random"))
    first, again = data[0, 0].frames, [data[0, 0, time].frames for time in range(1, 6)]
    assert torch.equal(first, data[0, 0].frames) and torch.equal(again[0], data[0, 0, 1].frames)
    assert any(not torch.equal(first, other) for other in again)


@pytest.mark.parametrize("options", [{"sampler": "balanced"}, {"class_weights": "balanced"}])
def test_uneven_classes_are_trained_on_and_nothing_is_said_of_them(
    options: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "foveate")
    job = job_of(make_list(tmp_path / "v", {"a": 60, "b": 6}), tmp_path / "run")
    job = replace(job, train=replace(CONFIG, **options, batch=8))
    train_model(job)
    assert not any("uneven" in line for line in caplog.messages)
    with pytest.raises(UsageError, match=next(iter(options))):
        train_model(replace(job, resume=True, train=replace(CONFIG, batch=8)))


def test_few_bad_files_are_let_pass_and_more_are_refused_before_the_run_is_begun(tmp_path: Path) -> None:
    folder = make_list(tmp_path / "v", {"a": 24, "b": 24})
    for number in range(2):
        (folder / f"a/broken{number}.mp4").write_text("no video")
    job = job_of(folder, tmp_path / "run", train=replace(CONFIG, batch=8))
    train_model(job)
    assert len((job.out / "bad_files.jsonl").read_text().splitlines()) == 2
    (folder / "b/broken.mp4").write_text("no video")
    other = replace(job, out=tmp_path / "other")
    with pytest.raises(
        DataError, match=r"3 of 51 videos cannot be read, the first .*a/broken0\.mp4: "
    ) as refused:
        train_model(other)
    assert not other.out.exists() and len(str(refused.value)) < 300 + len(str(folder))
    train_model(replace(other, train=replace(CONFIG, batch=8, max_bad_fraction=0.1)))
    strict = replace(job, out=tmp_path / "strict", train=replace(CONFIG, max_bad_fraction=0))
    with pytest.raises(DataError, match="3 of 51"):
        train_model(strict)


@pytest.mark.parametrize(
    ("share", "videos", "allowed"),
    [(0.01, 48, 2), (0.01, 1000, 10), (0.01, 8, 2), (0.01, 4, 1), (0.01, 3, 0), (0.0, 1000, 0), (0.5, 10, 5)],
)
def test_how_many_bad_files_a_run_lets_pass(share: float, videos: int, allowed: int) -> None:
    assert TrainConfig(max_bad_fraction=share).bad_files_allowed(videos) == allowed


def test_a_list_of_lost_files_only_is_refused_whatever_its_size() -> None:
    entries = tuple(VideoEntry(f"/nowhere/{number}.mp4", (0,)) for number in range(2000))
    with pytest.raises(
        DataError, match=r"286 of 286 videos cannot be read, the first /nowhere/0\.mp4: no such"
    ):
        check_openable(VideoList(entries, ("a",), "jsonl"), "x.jsonl", 2000)


SCRIPT = """
import multiprocessing, sys
from pathlib import Path
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.stages import train_model

multiprocessing.set_start_method(sys.argv[1], force=True)
job = TrainJob(Path("v"), Path("run"), "tsn_r10_8", settings={settings}, train=TrainConfig(epochs=1, batch=4))
_, outcome = train_model(job)
print("trained", outcome.steps)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_training_script_without_a_guard_is_told_so_before_anything_is_begun(
    method: str, tmp_path: Path
) -> None:
    make_list(tmp_path / "v", {"a": 4, "b": 4})
    (tmp_path / "mine.py").write_text(SCRIPT.format(settings=SETTINGS))
    command = [sys.executable, "mine.py", method]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    if method == "fork":
        assert done.stdout == "trained 2\n", done.stderr
        return
    last = done.stderr.splitlines()[-1]
    assert "each worker process would run mine.py again" in last and 'if __name__ == "__main__":' in last
    assert not (tmp_path / "run").exists()


def test_eval_says_each_class_and_each_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_list(tmp_path / "v", {"a": 3, "b": 2})
    job = job_of(folder, tmp_path / "run")
    train_model(job)
    (folder / "a/broken.mp4").write_text("no video")
    out = tmp_path / "all.csv"
    words = ["eval", folder, "--model", job.out / "best.safetensors", "--workers", 0, "--predictions", out]
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--per-class", *more])
        assert ended.value.code == 3
    text = capsys.readouterr().out
    report = json.loads(text.splitlines()[-1])
    assert report["protocol"] == "whole video" and report["views"] == "1x1"
    assert "taken for" in text
    rows = list(csv.DictReader(out.open()))
    assert [Path(row["video"]).name for row in rows].count("broken.mp4") == 1 and len(rows) == 6
    read = [row for row in rows if row["status"] == "ok"]
    right = sum(int(row["correct"]) for row in read)
    assert right / 5 == pytest.approx(report["top1"])
    assert all((row["true_rank"] == "1") == (row["correct"] == "1") for row in read)
    assert all(row["true_label"] == Path(row["video"]).parent.name for row in read)
    assert {(row["name"], row["videos"]) for row in report["per_class"]} == {("a", 3), ("b", 2)}
    assert sum(row["share"] * row["videos"] for row in report["per_class"]) == pytest.approx(right)
