"""Calibrate a model for int8 on videos: record what its parts are called with, quantise those that gain.

A part stays in floating point if it is small, or not faster in int8 on this machine, as with shifts along
time where the processor multiplies in bfloat16. Every second video is kept
back, to compare the answers with those of PyTorch in float32.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from foveate.choices import Precision
from foveate.data.dataset import cause_of
from foveate.errors import DataError, UsageError
from foveate.infer.ahead import ahead
from foveate.infer.calibration import Calibration, forget, remember
from foveate.infer.choice import has_bf16, relative_error
from foveate.infer.compiled import CompiledEngine, CompiledPart, Way, way_of
from foveate.infer.compilers import Run
from foveate.infer.compilers.int8 import demand_nncf
from foveate.infer.engine import EagerEngine, with_parts
from foveate.infer.read import ClipReader, name_of
from foveate.models.base import Frames, ModelOutput, VideoModel

log = logging.getLogger(__name__)
T = TypeVar("T")

LEAST = 16  # videos
HINT = f"give at least {LEAST}, better 100 to 300 of the kind that the model will see"
MOST = 300  # further ones of a list are left out, evenly
CALLS = 100  # of a way of calling a part that are quantised with
ROOM = 1 << 29  # bytes of inputs that are kept for one
SMALL = 0.05  # of the multiply-adds: such a part stays as it is
GAIN = 0.95  # of the time in floating point: what is hardly faster is not worth the error
ROUNDS = 10  # of which the fastest counts, as a machine may be busy at times


def calibrate(
    model: VideoModel,
    sources: Sequence[Any],
    folder: Path | None = None,
    parts: Collection[str] | None = None,
) -> Calibration:
    """Quantise parts of a model; afterwards `CompiledEngine(model, "openvino", precision="int8")` runs them.

    sources: videos like those that the model will see, as `open_video` takes them or entries of a list; one
    that cannot be read is left out with a warning. folder: where parts are kept; None: beside the downloads.
    parts: names of those to quantise; None: those that are faster so. UsageError for too few videos, or a
    package that is not installed; OutputError for a folder that cannot be written.
    """
    demand_nncf()
    sources = _spread(sources)
    if len(sources) < LEAST:
        raise UsageError("--calibrate", f"{len(sources)} videos are too few", HINT)
    recorder = Recorder(CompiledEngine(model, "openvino", folder=folder))
    engine = recorder.engine
    forget(engine.store, engine.facts)
    log.info("calibrating on %d videos, which takes minutes", len(sources))
    used = len(_each(model, sources[::2], recorder.run))
    plain: Precision = "bf16" if has_bf16() else "fp32"
    ways = {name: tuple(_quantised(recorder, name, plain, parts)) for name in model.parts}
    begun = Calibration(ways, plain, used)
    found = _compared(model, sources[1::2], begun, folder)
    remember(engine.store, engine.facts, found)
    return found


@dataclass
class Calls:
    """How a part was called in one way. leaves: of the first call. inputs: tensors of each call kept."""

    way: Way
    leaves: Sequence[Any]
    inputs: list[list[Tensor]] = field(default_factory=list)
    size: int = 0  # bytes of `inputs`
    macs: int = 0  # multiply-adds of all calls

    def add(self, leaves: Sequence[Any], macs: int) -> None:
        self.macs += macs
        if self.size < ROOM:
            self.inputs.append([self.way.stored(*pair).clone() for pair in self.way.tensors(leaves)])
            self.size += sum(tensor.nbytes for tensor in self.inputs[-1])

    def spread(self) -> list[list[Tensor]]:
        """Up to `CALLS` of the calls, from first to last."""
        return self.inputs[:: -(-len(self.inputs) // CALLS)]


class Recorder:
    """Runs a model by a compiled engine in float32 and keeps what its parts are called with."""

    def __init__(self, engine: CompiledEngine) -> None:
        self.engine = engine
        self.calls: dict[str, dict[str, Calls]] = {name: {} for name in engine.parts}
        parts = {name: partial(self._call, name) for name in engine.parts}
        self._runner = EagerEngine(with_parts(engine.model, parts), "cpu")

    def run(self, frames: Frames) -> ModelOutput:
        return self._runner.run(frames)

    def _call(self, name: str, *inputs: Any) -> Any:
        way, leaves = way_of(inputs)
        calls = self.calls[name].setdefault(way.key, Calls(way, leaves))
        calls.add(leaves, self.engine.model.part_macs(name, *inputs))
        return self.engine.parts[name](*inputs)

    def share(self, calls: Calls) -> float:
        """The share of all multiply-adds that was spent on one way of calling a part."""
        total = sum(each.macs for ways in self.calls.values() for each in ways.values())
        return calls.macs / max(1, total)


def _quantised(
    recorder: Recorder, name: str, plain: Precision, asked: Collection[str] | None
) -> Iterator[str]:
    """The ways of calling a part that are to run in int8."""
    part = recorder.engine.parts[name]
    for key, calls in recorder.calls[name].items():
        if name not in asked if asked is not None else recorder.share(calls) < SMALL:
            continue
        try:
            part.quantise(calls.way, calls.spread())
        except UsageError as error:
            log.info("%s, so it stays in %s", error.cause, plain)
            continue
        gain = _gain(part, calls, plain)
        log.info("%s: %.2f times as fast in int8 as in %s", name, gain, plain)
        if asked is not None or gain * GAIN > 1:
            yield key


def _gain(part: CompiledPart, calls: Calls, plain: Precision) -> float:
    """How many times as fast a part is in int8, in turns."""
    runs = [part.run_of(calls.way, calls.leaves, kind) for kind in (plain, "int8")]
    times = [[_seconds(run, calls.inputs[0]) for run in runs] for _ in range(ROUNDS)]
    before, after = map(min, zip(*times, strict=True))
    return before / after


def _seconds(run: Run, inputs: Sequence[Tensor]) -> float:
    start = time.perf_counter()
    run(inputs)
    return time.perf_counter() - start


def _compared(
    model: VideoModel, sources: Sequence[Any], begun: Calibration, folder: Path | None
) -> Calibration:
    """The calibration with what comparing on videos finds."""
    plain, ours = EagerEngine(model), CompiledEngine(model, "openvino", "cpu", "int8", folder, begun)

    def both(frames: Frames) -> tuple[Tensor, Tensor]:
        return plain.run(frames).logits, ours.run(frames).logits

    pairs = _each(model, sources, both)
    exact, quantised = (torch.cat(logits) for logits in zip(*pairs, strict=True))
    same = exact.argmax(1) == quantised.argmax(1)
    return replace(
        begun,
        checked=len(same),
        agreement=float(same.float().mean()),
        error=relative_error(quantised, exact),
    )


def _each(model: VideoModel, sources: Sequence[Any], run: Callable[[Any], T]) -> list[T]:
    """`run` of the clip of each video that can be read; UsageError if these are too few."""
    reader = ClipReader(model.spec, window=0, needed=model.frames_needed, in_chunks=model.takes_chunks)
    found = []
    for source, video_of in ahead(lambda source: reader.open(source).begin(), sources, reader.ahead):
        try:
            with video_of() as video:
                found += [result for _, result in video.map(lambda _, frames: run(frames))]
        except (DataError, OSError) as error:
            log.warning("%s: %s; left out of the calibration", name_of(source), cause_of(error))
    if 4 * len(found) < LEAST:
        cause = f"{len(found)} of {len(sources)} videos can be read, too few"
        raise UsageError("--calibrate", cause, HINT)
    return found


def _spread(sources: Sequence[Any]) -> Sequence[Any]:
    """Up to `MOST` of the videos, from the whole list."""
    count = min(len(sources), MOST)
    return [sources[place * len(sources) // count] for place in range(count)]
