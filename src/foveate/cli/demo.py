"""The whole road in minutes: videos made here, AdaFocus trained on them, compared with its baselines, used.

Training starts from the model of the package, which has seen eight of the ten actions, with new classifiers.

What is compared stands in `RIVALS`; each rival starts from the trained networks and is tuned as the model is.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from foveate.cli.inputs import demand
from foveate.cli.show import plain, print_json, print_line, print_table, progress_bar, say
from foveate.data.cache import cache_videos
from foveate.data.dataset import VideoDataset
from foveate.data.lists import VideoList, read_list
from foveate.data.synthetic import make_figures
from foveate.infer.choice import has_bf16
from foveate.infer.engine import EagerEngine
from foveate.infer.output import Prediction
from foveate.infer.predict import Predictor
from foveate.layers.normalise import to_clip
from foveate.models.adafocus.glance import GlanceAlone
from foveate.models.adafocus.v1 import AdaFocus
from foveate.models.base import VideoModel
from foveate.report.overlay import write_overlay
from foveate.report.page import LiveReport
from foveate.train.config import Precision
from foveate.train.job import TrainJob, evaluate_list
from foveate.train.recipes import SMALL
from foveate.train.stages import train_model
from foveate.weights.file import read_model
from foveate.weights.load import SHIPPED

MODEL = "adafocus_small"
START = SHIPPED[MODEL, "figures"]  # as the papers start from ImageNet: minutes do not teach networks to see
SIDE = 160  # pixels of the small copies that are trained on
RECIPE = SMALL["adafocus"]
PLAN = replace(RECIPE.plan, glance_rate=1e-3, patch_rate=1e-3, policy_rate=3e-4)


@dataclass(frozen=True)
class Rival:
    """A baseline: the same networks with another rule where to look. settings: of the model. stage: tuned."""

    name: str
    settings: tuple[str, ...]
    stage: str


RIVALS = (
    Rival("random patch", ("policy=random",), "stage3"),
    Rival("centre patch", ("policy=centre",), "stage3"),
    Rival("full frame", ("policy=centre", f"patch={SIDE}"), "stage1"),
)


def demo(out: Path = Path("demo"), videos: int = 640, workers: int = 2, json: bool = False) -> int:
    """Make videos, train AdaFocus on them, compare it with its baselines, and draw where it looks.

    Args:
        out: Folder for the videos and the runs; a second demo keeps the videos.
        videos: Videos to train on; a fifth as many test.
        workers: Processes that draw and decode.
        json: Print one JSON object with the result.
    """
    demand(16, videos=videos)
    demand(0, workers=workers)
    clock = time.perf_counter()
    run = out / time.strftime("run-%Y%m%d-%H%M%S")
    lists = _videos(out, videos, workers)
    say(f"training AdaFocus on {videos} videos, from the networks of the package")
    job = _job(lists["train"], run, workers)
    page = LiveReport(run)
    train_model(job, page.after_epoch)
    rivals = [_tuned(rival, job) for rival in RIVALS]
    model = cast(AdaFocus, read_model(run / "best.safetensors")[0])
    test = read_list(lists["test"])
    say(f"scoring them on {len(test)} other videos")
    evaluate_list(EagerEngine(model), test, workers=workers).save(run / "evaluation.npz")
    page.write()
    named = dict(zip((rival.name for rival in RIVALS), rivals, strict=True))
    rows = _scores({"glance alone": GlanceAlone(model), **named, "learned patch": model}, test)
    guess = Predictor(model, top=3).predict(test.entries[0])
    sheet = write_overlay(guess, run / "overlay.mp4")
    _show(_report(run, sheet, rows, guess, test, time.perf_counter() - clock), json)
    return 0


def _videos(out: Path, train: int, workers: int) -> dict[str, Path]:
    """The list of each split; what is trained on is shrunk once, so that no epoch decodes it again."""
    test = max(10, train // 5)
    say(f"making {train + test} videos of small figures in {out / 'figures'}")
    with progress_bar("making") as report:
        lists = make_figures(out / "figures", train, 0, test, workers=workers, progress=report)
    say("shrinking those to train on")
    with progress_bar("shrinking") as report:
        folder = out / "small"
        cache_videos(read_list(lists["train"]), folder, SIDE, 16, workers, report)
    return {"train": folder / "list.jsonl", "test": lists["test"]}


def _job(train: Path, run: Path, workers: int) -> TrainJob:
    precision: Precision = "bf16" if has_bf16() else "fp32"
    config = replace(RECIPE.train, precision=precision, reference_batch=16, log_every=1000)
    return TrainJob(
        videos=train,
        out=run,
        model=MODEL,
        weights=str(START),
        settings=("dropout=0.3",),
        workers=workers,
        train=config,
        augment=RECIPE.augment,
        recipe="small",
        plan=PLAN,
    )


def _tuned(rival: Rival, job: TrainJob) -> VideoModel:
    """The rival, tuned from the finished model by the same stage."""
    say(f"tuning a baseline: {rival.name}")
    folder = job.out / rival.name.replace(" ", "_")
    plan = replace(PLAN, patch_epochs=2, glance_dropout=0.0)
    settings = (*job.settings, *rival.settings)
    weights = str(job.out / "best.safetensors")
    tuned = replace(job, out=folder, settings=settings, weights=weights, only=(rival.stage,), plan=plan)
    return train_model(tuned)[0]


@torch.inference_mode()
def _scores(models: dict[str, Any], test: VideoList) -> list[dict[str, Any]]:
    """Top-1, multiply-adds and seconds a video of each model, by turns on the same clips of the test videos.

    Seconds are those of the model; decoding, the same for all, is not in them.
    """
    spec = next(iter(models.values())).spec
    data = VideoDataset(test.entries, spec, test.num_classes)
    right, seconds = dict.fromkeys(models, 0), dict.fromkeys(models, 0.0)
    macs = dict.fromkeys(models, 0)
    torch.manual_seed(0)
    for index in range(len(data)):
        sample = data[0, index]
        clip = to_clip(sample.frames, spec)
        for name, model in models.items():
            model.eval()
            start = time.perf_counter()
            output = model.output(clip)
            seconds[name] += time.perf_counter() - start
            right[name] += int(output.logits.argmax(1).item() == sample.label.item())
            macs[name] += int(output.macs.sum())
    count = len(data)
    return [
        {
            "model": name,
            "top1": right[name] / count,
            "gmacs_per_video": macs[name] / count / 1e9,
            "seconds_per_video": seconds[name] / count,
        }
        for name in models
    ]


def _report(
    run: Path,
    sheet: Path,
    rows: list[dict[str, Any]],
    guess: Prediction,
    test: VideoList,
    seconds: float,
) -> dict[str, Any]:
    answer, entry = guess.to_dict(), test.entries[0]
    return {
        "run": str(run),
        "seconds": seconds,
        "models": rows,
        "chance": 1 / test.num_classes,
        "test_videos": len(test),
        "example": {"video": answer["video"], "shows": test.class_names[entry.labels[0]]},
        "predictions": answer["predictions"],
        "overlay": str(run / "overlay.mp4"),
        "sheet": str(sheet),
        "page": str(run / "report.html"),
    }


def _show(report: dict[str, Any], json: bool) -> None:
    if json:
        print_json(report)
        return
    columns = (f"top-1 of {report['test_videos']} unseen videos#", "GMACs a video#", "seconds a video#")
    table = [
        (
            row["model"],
            f"{row['top1']:.1%}",
            f"{row['gmacs_per_video']:.3f}",
            f"{row['seconds_per_video']:.4f}",
        )
        for row in report["models"]
    ]
    print_table(("where it looks", *columns), [*table, ("chance", f"{report['chance']:.1%}", "", "")])
    print_line(f"the whole demo took {report['seconds']:.0f} s")
    print_line()
    example, best = report["example"], Path(report["run"]) / "best.safetensors"
    print_line(f"{example['video']} shows {example['shows']}; the model says")
    guesses = [(guess["label"], f"{guess['score']:.1%}") for guess in report["predictions"]]
    print_table(("label", "score#"), guesses)
    print_line(f"where it looked: {plain(report['overlay'])}, {plain(report['sheet'])}")
    print_line(f"curves, mistakes and classes: {plain(report['page'])}")
    print_line()
    print_line(f"the run is in {report['run']}; try the model on your own:")
    print_line(f"foveate predict VIDEO --model {shlex.quote(str(best))} --overlay OUT.mp4")
