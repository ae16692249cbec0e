"""`foveate batch`: answers to any number of videos, in a folder that a stopped run goes on in."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from foveate.choices import Answers, RowFormat
from foveate.cli.inputs import PIPE, demand, videos_of
from foveate.cli.options import AUTO, ITS_OWN, EngineChoice, EngineOptions, ViewOptions
from foveate.cli.show import print_json, print_line, say
from foveate.errors import DataError, UsageError

if TYPE_CHECKING:
    from foveate.batch.job import Job, Share
    from foveate.infer.engine import Engine
    from foveate.models.base import VideoModel

SAY_EVERY_S = 30.0


def batch(
    videos: tyro.conf.Positional[list[str]],
    model: str,
    out: Path,
    weights: str | None = None,
    write: Answers = "predictions",
    top: int = 5,
    window: float | None = None,
    format: RowFormat = "parquet",
    part_rows: int = 64,
    batch: int = 8,
    workers: int | None = None,
    timeout: float = 300.0,
    retry: bool = False,
    shard: str | None = None,
    ray: str | None = None,
    budget: str | None = None,
    views: ViewOptions = ITS_OWN,
    engine: EngineOptions = AUTO,
    json: bool = False,
) -> int:
    """Answer any number of videos into a folder, one row a video; a stopped run goes on where it was.

    A video that cannot be used has a row with its cause; the exit code is then 3. Another model, list or
    setting in the same folder is refused. Under torchrun each rank takes a share of its own, and
    leaves with 0 then, as torchrun would end the others.

    Args:
        videos: Lists, folders, video files, URLs, or patterns such as 'clips/*.mp4' or 's3://bucket/*.mp4'.
        model: A model file, such as best.safetensors of a run, hf:user/name, or a name with weights.
        out: The folder to write: part-000000.parquet and so on, failures.jsonl, summary.json.
        weights: Of a name: what it was trained on, such as kinetics400; downloaded once.
        write: What a row has: predictions, features (what the classifier reads), or both.
        top: How many classes to name.
        window: Seconds for one label over time; 0 takes each video as one. If not given, videos over 20 s
            get windows of 5 s.
        format: Of the parts: parquet, or jsonl, a JSON object a line.
        part_rows: Videos in a part, which is what a run that was killed has to do again.
        batch: Clips that the model takes at once.
        workers: Processes that decode; one for each processor if not given.
        timeout: Seconds that reading one video may take, of waiting and of processor time.
        retry: Make parts again that have a refused video.
        shard: K/N: this process takes part K, K+N, K+2N and so on; K counts from 0. For job arrays.
        ray: Run on Ray: local starts it on this machine, auto or an address joins a cluster.
        budget: What a clip may cost, of a model with a curve (`foveate budget` makes it): a share of the full
            cost such as 0.3, or multiply-adds such as 9G.
        json: Print one JSON object.
    """
    from foveate.batch.answer import Answering
    from foveate.batch.job import Job
    from foveate.batch.rows import check_format
    from foveate.batch.work import work
    from foveate.data.pool import usual_workers
    from foveate.infer.isolated import MEMORY, UNTRUSTED, IsolatedReader
    from foveate.infer.read import ClipReader
    from foveate.video import Limits
    from foveate.weights.load import trained_model

    demand(1, part_rows=part_rows, batch=batch, top=top, workers=workers)
    check_format(format)
    share = _share(shard)
    entries = videos_of(videos, views.template)
    if PIPE in (entry.path for entry in entries):
        raise UsageError(
            PIPE, "a run that goes on cannot read a pipe again", "save the video to a file first"
        )
    net = trained_model(model, weights)
    views.apply(net)
    _set_budget(net, budget)
    reader = ClipReader(
        net.spec,
        views.clips,
        views.crops,
        window,
        net.frames_needed,
        net.takes_chunks,
        UNTRUSTED if views.untrusted else Limits(),
        views.keyframes,
    )
    group = max(1, batch // (views.clips * views.crops))
    job = Job(out, entries, format, -(-part_rows // group) * group)
    asked: dict[str, Any] = {"write": write, "top": top, "window": window, "group": group}
    asked |= {name: getattr(views, name) for name in ("clips", "crops", "keyframes", "untrusted")}
    asked["setting"] = net.setting and [*net.setting]
    runner = _settle(job, net, engine, asked, views.template)
    parts = job.missing(share, retry)
    kept = write != "features" and top
    answering = Answering(runner, reader, group, kept or 0, write != "predictions")
    report = _reporter()
    with job.working(share):
        if parts and ray is not None:
            from foveate.batch.on_ray import work_on_ray

            work_on_ray(job, answering, parts, ray, timeout, report)
        elif parts:
            children = workers or usual_workers()
            with IsolatedReader(reader, children, timeout, MEMORY) as isolated:
                work(job, replace(answering, reader=isolated), parts, report)
    return _say_summary(out, job.summary(), json)


def _share(shard: str | None) -> Share:
    """The share of --shard K/N, or of a rank of torchrun; UsageError for anything else."""
    from foveate.batch.job import Share

    if shard is None:
        return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    number, slash, of = shard.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise UsageError("--shard", f"is '{shard}'", "write K/N, such as 0/4")
    return Share(int(number), int(of))


def _set_budget(net: VideoModel, budget: str | None) -> None:
    from foveate.infer.budget import check_budget, turn_to

    if budget is None:
        return
    wanted = check_budget(net, budget)
    if wanted.unit == "ms":
        cause = "is a time, which differs from one run to the next, and all rows are to be alike"
        raise UsageError(f"--budget {budget}", cause, "give a share such as 0.3, or multiply-adds such as 9G")
    turn_to(net, wanted)


def _settle(
    job: Job, net: VideoModel, chosen: EngineChoice, asked: dict[str, Any], template: str | None
) -> Engine:
    """The engine of a job: what is asked for, or what the job began with where any will do."""
    import torch

    with job.settling():
        recorded = job.recorded()
        if isinstance(threads := recorded.get("threads"), int) and threads > 0:
            torch.set_num_threads(threads)  # eager adds up in another order with another number
        name, _, precision = str(recorded.get("engine", "")).partition(" ")
        if precision and chosen.engine == "auto" and chosen.precision in (None, precision):
            chosen = replace(chosen, engine=name, precision=precision)  # type: ignore[arg-type]
        rank = os.environ.get("LOCAL_RANK")
        if chosen.device == "cuda" and rank is not None:
            chosen = replace(chosen, device=f"cuda:{rank}")
        engine = chosen.open(net, len(job.entries), template)
        facts: dict[str, Any] = {"model": net.name, "weights": _digest(net), "engine": engine.kind}
        facts |= {"input": f"{net.spec.resize} -> {net.spec.size}", "threads": torch.get_num_threads()}
        job.settle(facts | asked)
    return engine


def _digest(model: VideoModel) -> str:
    """SHA-256 of a model's weights and configuration."""
    from foveate.infer.artefacts import digest, facts_of

    facts = facts_of(model)
    return digest({name: facts[name] for name in ("model", "weights")})


def _reporter() -> Callable[[int, int], None]:
    """report(done, total) says rate and time left: at once, every half minute, and at the end."""
    begun, said = time.monotonic(), [-math.inf]

    def report(done: int, total: int) -> None:
        now = time.monotonic()
        if now - said[0] >= SAY_EVERY_S or done == total:
            said[0] = now
            rate = done / max(now - begun, 1e-9)
            left = f", {_duration((total - done) / rate)} left" if done < total else ""
            say(f"{done} of {total} videos, {rate:.1f} a second{left}")

    return report


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return (
        f"{minutes / 60:.1f} h"
        if minutes >= 90
        else f"{minutes:.0f} min"
        if minutes >= 2
        else f"{seconds:.0f} s"
    )


def _say_summary(out: Path, counts: dict[str, int], json: bool) -> int:
    if json:
        print_json({"out": str(out), **counts})
    else:
        named = ", ".join(f"{counts[name]} {name}" for name in ("ok", "partial", "refused", "missing"))
        print_line(f"{out}: {counts['videos']} videos: {named}")
        if counts["refused"] or counts["partial"]:
            print_line(f"causes in {out / 'failures.jsonl'}")
    ranks = "RANK" in os.environ  # torchrun ends all others when one leaves with another code
    return DataError.exit_code if counts["refused"] and not ranks else 0
