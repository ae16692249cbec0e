"""The whole road in minutes: a video named at once, then AdaFocus trained, compared with its baselines, used.

Training starts from the model of the package, which has seen eight of the ten actions, with new classifiers.
A demo that was stopped goes on where it was: every stage is a run of the common loop, and is resumed as one.

What is compared stands in `RIVALS`; each rival starts from the trained networks and is tuned as the model is.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from foveate.cli.inputs import demand
from foveate.cli.show import plain, print_json, print_line, print_table, progress_bar, say
from foveate.data.cache import cache_videos
from foveate.data.dataset import VideoDataset
from foveate.data.lists import VideoList, read_list
from foveate.data.synthetic import ACTIONS, FiguresConfig, make_figures, render_clip
from foveate.data.synthetic.encode import encode_h264
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
from foveate.train.recipes import VARIANTS
from foveate.train.stages import train_model
from foveate.train.stop import Stopped
from foveate.weights.file import read_model
from foveate.weights.load import SHIPPED, load_model

MODEL = "adafocus_small"
START = SHIPPED[MODEL, "figures"]  # as the papers start from ImageNet: minutes do not teach networks to see
SIDE = 160  # pixels of the short side of the videos, which is what the model reads
FIGURES = FiguresConfig(width=212, height=SIDE)
RECIPE = VARIANTS["adafocus"]["small"]
PLAN = replace(
    RECIPE.plan,
    glance_epochs=2,
    glance_rate=1e-3,
    patch_epochs=2,
    patch_rate=1e-3,
    policy_epochs=2,
    policy_rate=3e-4,
    tune_epochs=2,
)
FIRST, FIRST_SEED = "wave", 3  # the action of the first video, and its look


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


def demo(out: Path = Path("demo"), videos: int = 240, workers: int = 2, json: bool = False) -> int:
    """Name a video, then make more, train AdaFocus on them, compare it with baselines, draw where it looks.

    A demo that was stopped goes on where it was when it is called again.

    Args:
        out: Folder for the videos and the run.
        videos: Videos to train on; two fifths as many test.
        workers: Processes that draw and decode.
        json: Print one JSON object with the result.
    """
    demand(16, videos=videos)
    demand(0, workers=workers)
    clock = time.perf_counter()
    run = out / f"run-{videos}"
    tell = say if json else print_line
    _first_label(out, tell)
    tell(f"report: {plain(str(run / 'report.html'))} (open it in a browser; renewed after every epoch)")
    if run.exists():
        tell(f"going on with the demo in {plain(str(run))}: what is done is kept (another --out begins anew)")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of networks this small two wait for each other more than they save
    try:
        report = _trained_and_compared(out, run, videos, workers)
    except (KeyboardInterrupt, Stopped) as stop:
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        again = f"call `foveate demo --out {shlex.quote(str(out))}` again to go on"
        raise Stopped(signum, run, "stopped; what is done is saved", again) from None
    finally:
        torch.set_num_threads(threads)
    _show(report | {"seconds": time.perf_counter() - clock}, json)
    return 0


def _first_label(out: Path, tell: Callable[[str], None]) -> None:
    """Make one video, name what it shows by the model of the package, and draw where that looked."""
    out.mkdir(parents=True, exist_ok=True)
    video, drawn = out / "first.mp4", out / "first_looks.mp4"
    clip = render_clip(FiguresConfig(), FIRST_SEED, label=ACTIONS.index(FIRST))
    video.write_bytes(encode_h264(clip.frames, FiguresConfig().fps, FiguresConfig().crf))
    model = load_model(MODEL, "figures")
    guess = Predictor(model, top=3).predict(video)
    sheet = write_overlay(guess, drawn)
    best = guess.top[0]
    tell(
        f"{plain(str(video))} shows '{FIRST}'; {MODEL} of the package says '{best.label}' ({best.score:.0%})"
    )
    tell(f"it knows {model.trained_on}: {', '.join(model.labels)}")
    tell(f"where it looked: {plain(str(drawn))}, {plain(str(sheet))}")


def _trained_and_compared(out: Path, run: Path, videos: int, workers: int) -> dict[str, Any]:
    """What the demo finds, as `_show` prints it."""
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
    return _report(run, sheet, rows, guess, test)


def _videos(out: Path, train: int, workers: int) -> dict[str, Path]:
    """The list of each split; what is trained on is decoded once, so that no epoch does it again."""
    test = max(10, 2 * train // 5)
    say(f"making {train + test} videos of small figures in {out / 'figures'}, unless they are there")
    with progress_bar("making") as report:
        lists = make_figures(
            out / "figures", train, 0, test, config=FIGURES, workers=workers, progress=report
        )
    say("decoding those to train on once")
    with progress_bar("decoding") as report:
        folder = out / f"decoded-{train}"
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
        resume=True,
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
) -> dict[str, Any]:
    answer, entry = guess.to_dict(), test.entries[0]
    return {
        "run": str(run),
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
    print_line(f"report: {plain(report['page'])} (curves, mistakes, classes, where it looked)")
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
    print_line()
    print_line(f"the run is in {report['run']}; try the model on your own:")
    print_line(f"foveate predict VIDEO --model {shlex.quote(str(best))} --overlay OUT.mp4")
