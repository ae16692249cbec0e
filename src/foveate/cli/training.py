"""Verbs that train: on anyone's list, and the demo that shows the whole road on made videos."""

from __future__ import annotations

import time
from pathlib import Path

import tyro

from foveate.cli.show import console, print_json, print_table
from foveate.data.lists import read_list
from foveate.infer.predict import Predictor
from foveate.train.classifier import TrainJob, judge_list, train_classifier
from foveate.train.config import TrainConfig
from foveate.video.transform import Augment
from foveate.weights.file import read_model


def train(job: tyro.conf.OmitArgPrefixes[TrainJob], json: bool = False) -> int:
    """Train or fine-tune a classifier on a list of videos or a folder with one sub-folder a class.

    Args:
        job: What is trained, on what, and where it goes.
        json: Print one JSON object with the last scores.
    """
    start = time.perf_counter()
    _, outcome = train_classifier(job)
    seconds = time.perf_counter() - start
    report = {
        "run": str(job.out),
        "steps": outcome.steps,
        "seconds": seconds,
        "best": outcome.best,
        **outcome.scores,
    }
    if json:
        print_json(report)
    else:
        rows = [(key, value) for key, value in report.items() if value is not None]
        print_table("Trained", ("what", "value#"), rows)
        console.print(f"the model: {job.out / 'best.safetensors'}", markup=False)
    return 0


def demo(out: Path = Path("demo"), train_videos: int = 480, epochs: int = 12, workers: int = 2) -> int:
    """Make videos, train a small TSM on them, evaluate it, and use it on a new video.

    Args:
        out: Folder for the videos and the run.
        train_videos: Videos to train on; a third as many judge the epochs and a third test.
        epochs: Passes over them.
        workers: Processes that draw and decode.
    """
    from foveate.data.made import make_figures

    start = time.perf_counter()
    held_out = max(10, train_videos // 3)
    console.print(
        f"1. making {train_videos + 2 * held_out} videos of figures, as H.264 files in {out / 'figures'}"
    )
    lists = make_figures(out / "figures", train=train_videos, val=held_out, test=held_out, workers=workers)
    job = demo_job(lists, out / f"run-{time.strftime('%Y%m%d-%H%M%S')}", epochs, workers)
    console.print(f"2. training {job.model} on them ({time.perf_counter() - start:.0f} s so far)")
    train_classifier(job)
    console.print(f"3. evaluating on the test list ({time.perf_counter() - start:.0f} s so far)")
    scores = judge_list(
        read_model(job.out / "best.safetensors")[0], read_list(lists["test"]), workers=workers
    )
    _print_demo(job, lists["test"], scores)
    console.print(f"\nall of it took {time.perf_counter() - start:.0f} s; the run: {job.out}", markup=False)
    return 0


def demo_job(lists: dict[str, Path], run: Path, epochs: int, workers: int) -> TrainJob:
    """A small TSM on the made videos: the settings of the demo."""
    config = TrainConfig(
        epochs=epochs,
        batch=16,
        optimizer="adamw",
        rate=2e-3,
        reference_batch=16,
        weight_decay=0.02,
        warmup_epochs=1,
        groups="no_norm_bias_decay",
    )
    return TrainJob(
        videos=lists["train"],
        val=lists["val"],
        out=run,
        model="tsm_r10_8",
        workers=workers,
        train=config,
        augment=Augment(crop="random"),
    )


def _print_demo(job: TrainJob, test: Path, scores: dict[str, float]) -> None:
    predictor = Predictor(job.out / "best.safetensors", top=3)
    entry = read_list(test).entries[0]
    result = predictor.predict(entry.path)
    classes = predictor.model.num_classes
    seconds = sum(result.timing_ms.values()) / 1000
    rows = [
        ("top-1 on unseen videos", f"{scores['top1']:.1%} of {scores['n_ok']:.0f}"),
        ("chance", f"{1 / classes:.1%}"),
        ("multiply-adds a video", f"{result.cost.gmacs:.2f} G"),
        ("seconds a video", f"{seconds:.2f}"),
    ]
    print_table("Result", ("what", "value#"), rows)
    console.print(f"\n4. a new video: {entry.path}", markup=False)
    print_table(
        "", ("", "label", "score#"), [(g.rank, g.label, f"{g.score:.1%}") for g in result.predictions]
    )
    console.print(f"it is a {predictor.model.labels[entry.labels[0]]}. Try it on your own:")
    console.print(
        f"  foveate predict VIDEO --model {job.out / 'best.safetensors'}", markup=False, highlight=False
    )
