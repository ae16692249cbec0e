"""Videos a second of `foveate batch`, against loops over `predict` and the script that one would write.

The videos are those of folder.py, several times over. A batch reads in child processes and runs several
videos at once; starting it, which takes seconds, is not counted, as a batch has many videos.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.child import in_child
from benchmarks.engines import made
from benchmarks.folder import make_folder, script
from benchmarks.record import WORK, Spread, Table, Value, in_turns, ratio, seconds
from foveate.batch.answer import Answering
from foveate.data.lists import VideoEntry
from foveate.data.pool import usual_workers
from foveate.infer.engine import open_engine
from foveate.infer.isolated import IsolatedReader
from foveate.infer.predict import Predictor
from foveate.infer.read import ClipReader
from foveate.models.base import VideoModel
from foveate.weights.load import load_model

SMALL = "adafocus_small"
MODELS = (SMALL, "tsm_r50_8", "adafocus_mnv2_r50_128")
ROUNDS = 3  # of the folder in one list
GROUP = 8  # videos at once
REPEATS = 3


def run() -> Table:
    """A row for each model, in a process of its own."""
    paths = make_folder(WORK / "folder") * ROUNDS
    rows = [in_child(row_of, name, paths) for name in MODELS]
    about = (
        f"{len(paths)} H.264 files of 10 s, 456x256, one label each. Script: PyAV decodes every frame, eager "
        "float32. Loop: `foveate.predict` of one file after the other, in one process, which is eager "
        "float32 too, and the same with the engine of the batch. Batch: reader processes, one for each "
        f"processor, and {GROUP} videos at once in the fastest engine. "
        f"Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "model": "model",
        "engine": "engine of the batch",
        "script": "script, videos a second",
        "loop": "loop, videos a second",
        "loop_engine": "loop with that engine, videos a second",
        "batch": "batch, videos a second",
        "times": "batch / loop",
        "times_engine": "batch / loop with that engine",
        "times_script": "batch / script",
        "million": "a million videos by batch, days",
    }
    return Table(about, columns, rows)


def model_named(name: str) -> VideoModel:
    return load_model(name, "figures") if name == SMALL else made(name)


def row_of(name: str, paths: Sequence[Path]) -> dict[str, Value]:
    """The row of one model."""
    model = model_named(name)
    engine = open_engine(model, "auto")
    needed, chunks = model.frames_needed, model.takes_chunks
    reader = ClipReader(model.spec, window=0, needed=needed, in_chunks=chunks)
    entries = [VideoEntry(str(path)) for path in paths]
    loops = {"loop": Predictor(model, window=0), "loop_engine": Predictor(engine, window=0)}
    children = usual_workers()
    with IsolatedReader(reader, children) as isolated:
        answering = Answering(engine, isolated, GROUP)
        calls: dict[str, Callable[[], object]] = {
            "script": partial(script, model, paths),
            "batch": lambda: list(answering.rows(entries, range(len(entries)))),
        }
        for key, predictor in loops.items():
            calls[key] = partial(_loop, predictor, paths)
        times = in_turns({key: partial(seconds, call) for key, call in calls.items()}, REPEATS)
    row: dict[str, Value] = {"model": name, "engine": engine.kind}
    row |= {key: Spread.of([len(paths) / took for took in times[key]]) for key in calls}
    row |= {"times": ratio(times["loop"], times["batch"])}
    row |= {"times_engine": ratio(times["loop_engine"], times["batch"])}
    row |= {"times_script": ratio(times["script"], times["batch"])}
    return row | {"million": 1e6 / Spread.of([len(paths) / took for took in times["batch"]]).median / 86400}


def _loop(predictor: Predictor, paths: Sequence[Path]) -> None:
    for path in paths:
        predictor.predict(path)
