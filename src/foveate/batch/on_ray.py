"""The missing parts of a job on a Ray cluster, by Ray Data: readers on processors, engines on their devices.

One block of the data set is one part, so that a killed worker costs no more. Readers turn it into groups of
videos, an engine turns a group into rows, and this process writes a part when all its groups are there. No
function of a row raises, as Ray Data would drop a whole block for it. Ray starts lost workers again and has
their blocks done again; a part is written once.
"""

from __future__ import annotations

import logging
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.batch.answer import Answering, ReadSoFar, read
from foveate.batch.job import Job
from foveate.batch.rows import Row
from foveate.data.lists import VideoEntry
from foveate.data.pool import usual_workers
from foveate.errors import UsageError
from foveate.infer.engine import open_engine
from foveate.infer.isolated import IsolatedReader
from foveate.infer.read import ClipReader
from foveate.video.source import URL

Block = dict[str, Any]  # columns of a data set: numpy arrays
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
SPARE = 2  # logical processors that no actor holds, as Ray Data's own tasks would wait for them for ever


def work_on_ray(
    job: Job,
    answering: Answering,
    parts: Sequence[int],
    address: str,
    timeout: float,
    report: Callable[[int, int], None],
) -> None:
    """Answer the videos of `parts` on Ray and write them.

    address: "local" starts Ray on this machine, "auto" joins a cluster that this machine is of, anything else
    is that of one. timeout: seconds for reading one video. UsageError if Ray is missing or nobody answers.
    """
    ray = _joined(address)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # which tells of plans and paths
    on_gpu = answering.engine.kind.endswith("fp16") or next(answering.engine.model.parameters()).is_cuda
    threads = torch.get_num_threads()
    engines, readers = _actors(ray.cluster_resources(), threads, on_gpu)
    shipped = ray.put(_Shipped(answering, timeout, "cuda" if on_gpu else "cpu", threads))
    rows = ray.data.from_items(
        [{"part": part, "entries": pickle.dumps(_listed(job, part))} for part in parts],
        override_num_blocks=len(parts),
    )
    rows = rows.map_batches(
        ReadGroups,
        fn_constructor_args=(shipped,),
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=readers),
    ).map_batches(
        RunGroups,
        fn_constructor_args=(shipped,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=engines),
        **({"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": threads}),
    )
    _write_parts(job, parts, rows.iter_rows(), report)


def _write_parts(
    job: Job, parts: Sequence[int], groups: Iterator[Block], report: Callable[[int, int], None]
) -> None:
    """Write each part when the rows of all its videos have come."""
    come: dict[int, dict[int, Row]] = defaultdict(dict)
    done, total = 0, sum(len(job.places(part)) for part in parts)
    for group in groups:
        part, places = group["part"], job.places(group["part"])
        come[part] |= {row["index"]: row for row in pickle.loads(group["rows"])}
        if len(come[part]) == len(places):
            rows = come.pop(part)
            job.write(part, [rows[place] for place in places])
            done += len(places)
            report(done, total)


class _Shipped:
    """What actors need of an `Answering`: the model as it is, and how to open its engine."""

    def __init__(self, answering: Answering, timeout: float, device: str, threads: int) -> None:
        engine, reader = answering.engine, answering.reader
        assert isinstance(reader, ClipReader)
        self.model = engine.model.cpu()
        self.name, self.precision = engine.kind.split(" ")
        self.settings = answering.group, answering.top, answering.features
        self.reader = reader
        self.timeout = timeout
        self.device = device
        self.threads = threads

    def isolated(self) -> IsolatedReader:
        return IsolatedReader(self.reader, 1, self.timeout)

    def answering(self, reader: IsolatedReader) -> Answering:
        torch.set_num_threads(self.threads)  # Ray lowers it; other numbers may add up in another order
        engine = open_engine(self.model, self.name, self.device, self.precision)  # type: ignore[arg-type]
        return Answering(engine, reader, *self.settings)


class ReadGroups:
    """An actor that reads the videos of a part, group by group."""

    def __init__(self, reference: Any) -> None:
        shipped = _fetched(reference)
        self.group = shipped.settings[0]
        self.reader = shipped.isolated()

    def __call__(self, block: Block) -> Iterator[Block]:
        part, entries = int(block["part"][0]), pickle.loads(block["entries"][0])
        for _, group in groupby(entries, key=lambda listed: listed[0] // self.group):
            videos = [
                (entry, read(place, name, partial(self.reader.open, entry))) for place, name, entry in group
            ]
            yield {"part": np.array([part]), "videos": _column(videos)}


class RunGroups:
    """An actor that runs the engine on groups of videos, and reads those of several windows itself."""

    def __init__(self, reference: Any) -> None:
        shipped = _fetched(reference)
        self.answering = shipped.answering(shipped.isolated())

    def __call__(self, block: Block) -> Block:
        pairs = pickle.loads(block["videos"][0])
        videos = [self._ready(entry, video) for entry, video in pairs]
        rows = self.answering.rows_of_group(videos)
        return {"part": block["part"], "rows": _column(rows)}

    def _ready(self, entry: VideoEntry, video: ReadSoFar) -> ReadSoFar:
        if video.error is None and video.frames is None:
            opening = partial(self.answering.reader.open, entry)
            return read(video.place, video.name, opening, self.answering.engine)
        return video


def _fetched(reference: Any) -> _Shipped:
    import ray

    shipped: _Shipped = ray.get(reference)
    return shipped


def _listed(job: Job, part: int) -> list[tuple[int, str, VideoEntry]]:
    """Places, names and entries of a part; files by their whole paths, as actors run in another folder."""
    found = []
    for place in job.places(part):
        entry = job.entries[place]
        path = entry.path if URL.match(entry.path) else str(Path(entry.path).absolute())
        found.append((place, entry.path, replace(entry, path=path)))
    return found


def _column(values: Sequence[Any]) -> NDArray[np.object_]:
    """A column of one pickled value; numpy would cut zeros off bytes."""
    column = np.empty(1, object)
    column[0] = pickle.dumps(values)
    return column


def _joined(address: str) -> Any:
    """Ray, started on this machine or connected to a cluster."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError("--ray", "Ray is not installed", "pip install 'foveate[ray]'") from error
    try:
        if address == "local":
            processors = torch.get_num_threads() + usual_workers() + SPARE
            ray.init(
                "local", num_cpus=processors, include_dashboard=False, object_store_memory=1 << 30, **QUIET
            )
        else:
            ray.init(address, **QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        cause = f"no cluster answers at {address}: {str(error).splitlines()[0]}"
        raise UsageError("--ray", cause, "start one with `ray start --head`, or use --ray local") from error
    return ray


def _actors(resources: dict[str, float], threads: int, on_gpu: bool) -> tuple[int, int]:
    """How many engines and readers a cluster has room for."""
    processors = max(2, int(resources.get("CPU", 0)) - SPARE)
    if on_gpu:
        return max(1, int(resources.get("GPU", 0))), processors
    engines = max(1, processors // (2 * threads))
    return engines, max(1, processors - engines * threads)
