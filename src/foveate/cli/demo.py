"""The whole road in minutes: videos made here, a small model trained on them, scored and used."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from statistics import median
from typing import Any

from foveate.cli.inputs import demand
from foveate.cli.show import print_json, print_line, print_table, progress_bar, say
from foveate.data.cache import cache_videos
from foveate.data.lists import VideoList, read_list
from foveate.data.made import make_figures
from foveate.infer.predict import Predictor
from foveate.infer.result import Prediction
from foveate.train.classifier import TrainJob, judge_list, train_classifier
from foveate.train.config import TrainConfig
from foveate.video.transform import Augment
from foveate.weights.file import read_model

SMALL = ("width=0.25", "size=80", "resize=80", "dropout=0.2")  # of tsm_r10_8: 45 clips/s on two cores


def demo(
    out: Path = Path("demo"), videos: int = 280, epochs: int = 12, workers: int = 2, json: bool = False
) -> int:
    """Make videos, train a small TSM on them, evaluate it, and use it on a new video, in a few minutes.

    Args:
        out: Folder for the videos and the runs; a second demo keeps the videos.
        videos: Videos to train on; a quarter as many choose the epoch, and as many test.
        epochs: Passes over them.
        workers: Processes that draw and decode.
        json: Print one JSON object with the result.
    """
    demand(1, videos=videos, epochs=epochs)
    demand(0, workers=workers)
    clock = time.perf_counter()
    run = out / time.strftime("run-%Y%m%d-%H%M%S")
    lists = _videos(out, videos, workers)
    say(f"training a small TSM, {epochs} times over {videos} videos")
    train_classifier(_job(lists, run, epochs, workers))
    test = read_list(lists["test"])
    say(f"scoring it on {len(test)} other videos")
    model = read_model(run / "best.safetensors")[0]
    scores = judge_list(model, test, workers=workers)
    guesses = list(Predictor(model, top=3).predict_all(test.entries[:5]))
    _show(_report(run, scores, guesses, test, time.perf_counter() - clock), json)
    return 0


def _videos(out: Path, train: int, workers: int) -> dict[str, Path]:
    """The list of each split; what is trained on is shrunk once, so that no epoch decodes it again."""
    held_out = max(10, train // 4)
    say(f"making {train + 2 * held_out} videos of small figures in {out / 'figures'}")
    with progress_bar("making") as report:
        lists = make_figures(out / "figures", train, held_out, held_out, workers=workers, progress=report)
    say("shrinking those to train on")
    with progress_bar("shrinking") as report:
        for split in ("train", "val"):
            folder = out / "small" / split
            cache_videos(read_list(lists[split]), folder, 96, 24, workers, report)
            lists[split] = folder / "list.jsonl"
    return lists


def _job(lists: dict[str, Path], run: Path, epochs: int, workers: int) -> TrainJob:
    config = TrainConfig(
        epochs=epochs,
        batch=16,
        optimizer="adamw",
        rate=2e-3,
        reference_batch=16,
        weight_decay=0.02,
        groups="no_norm_bias_decay",
        warmup_epochs=1,
        log_every=1000,
    )
    return TrainJob(
        videos=lists["train"],
        val=lists["val"],
        out=run,
        model="tsm_r10_8",
        settings=SMALL,
        workers=workers,
        train=config,
        augment=Augment(crop="random"),
    )


def _report(
    run: Path, scores: dict[str, float], guesses: list[Prediction], test: VideoList, seconds: float
) -> dict[str, Any]:
    guess, entry = guesses[0].to_dict(), test.entries[0]
    return {
        "run": str(run),
        "seconds": seconds,
        "top1": scores["top1"],
        "chance": 1 / test.num_classes,
        "test_videos": int(scores["n_ok"]),
        "gmacs_per_video": guesses[0].cost.gmacs,
        "seconds_per_video": median(sum(guess.timing_ms.values()) / 1000 for guess in guesses),
        "example": {"video": guess["video"], "shows": test.class_names[entry.labels[0]]},
        "predictions": guess["predictions"],
    }


def _show(report: dict[str, Any], json: bool) -> None:
    if json:
        print_json(report)
        return
    example, best = report["example"], Path(report["run"]) / "best.safetensors"
    rows = [
        (f"top-1 of {report['test_videos']} unseen videos", f"{report['top1']:.1%}"),
        ("chance", f"{report['chance']:.1%}"),
        ("GMACs a video", f"{report['gmacs_per_video']:.2f}"),
        ("seconds a video, decoding included", f"{report['seconds_per_video']:.3f}"),
        ("seconds for the whole demo", f"{report['seconds']:.0f}"),
    ]
    print_table(("result", "value#"), rows)
    print_line()
    print_line(f"{example['video']} shows {example['shows']}; the model says")
    guesses = [(guess["label"], f"{guess['score']:.1%}") for guess in report["predictions"]]
    print_table(("label", "score#"), guesses)
    print_line()
    print_line(f"the run is in {report['run']}; try the model on your own:")
    print_line(f"foveate predict VIDEO --model {shlex.quote(str(best))}")
