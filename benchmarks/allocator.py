"""What it brings that the `foveate` command keeps freed memory (`foveate.infer.allocator`)."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F

from benchmarks.child import in_child
from benchmarks.record import Spread, Table, Value, in_turns, ratio, seconds
from foveate.infer.allocator import keep_freed_memory
from foveate.infer.choice import a_clip
from foveate.infer.engine import Precision, open_engine
from foveate.layers.normalise import to_clip
from foveate.measure.cost import peak_memory_mb
from foveate.models.zoo import create_model

CALLS, ROUNDS = 5, 3
PREDICTIONS: tuple[tuple[str, int, str, Precision], ...] = (
    ("tsm_r50_8", 1, "eager", "bf16"),
    ("tsm_r50_8", 4, "eager", "bf16"),
    ("tsm_r50_8", 4, "openvino", "bf16"),
    ("slowfast_r50_4x16", 1, "eager", "bf16"),
    ("x3d_m", 1, "eager", "bf16"),
    ("adafocus_small", 8, "eager", "bf16"),
    ("uni_adafocus_small", 8, "eager", "bf16"),
)
STEPS = (("tsm_r10_8", 8), ("tsm_r50_8", 2))


def run() -> Table:
    """A row for each thing to do; every measurement is of a process of its own."""
    rows = []
    for name, clips, engine, precision in PREDICTIONS:
        rows.append(
            compared(f"{name}, {engine} {precision}", clips, predicting, name, clips, engine, precision)
        )
    for name, clips in STEPS:
        rows.append(compared(f"a training step of {name}, bf16", clips, learning, name, clips))
    columns = {
        "what": "what",
        "clips": "clips",
        "ratio": "time returned / kept",
        "ms": "ms, kept",
        "faults": "page faults a call, returned",
        "kept_faults": "kept",
        "memory": "peak memory, MB, returned",
        "kept_memory": "kept",
    }
    return Table(ABOUT, columns, rows)


ABOUT = (
    "The same calls in processes whose C library returns large blocks to the system when they are freed, as "
    f"it does by default, and in such that keep them: {ROUNDS} of each in turns, of which each gives the "
    f"median of {CALLS} calls. Models are untrained, predictions from uint8 clips."
)


def compared(
    what: str, clips: int, task: Callable[..., Callable[[], object]], *given: object
) -> dict[str, Value]:
    calls = {keep: partial(in_child, measure, keep, task, *given) for keep in (False, True)}
    returned, kept = in_turns(calls, ROUNDS).values()
    return {
        "what": what,
        "clips": clips,
        "ratio": ratio([one["ms"] for one in returned], [one["ms"] for one in kept]),
        "ms": Spread.of([one["ms"] for one in kept]),
        "faults": median(one["faults"] for one in returned),
        "kept_faults": median(one["faults"] for one in kept),
        "memory": median(one["memory"] for one in returned),
        "kept_memory": median(one["memory"] for one in kept),
    }


def measure(keep: bool, task: Callable[..., Callable[[], object]], *given: object) -> dict[str, float]:
    """Milliseconds and page faults of a call, after two that are not counted, and the peak of memory."""
    if keep and not keep_freed_memory():
        raise RuntimeError("the C library is not glibc, or the environment says how it allocates")
    call = task(*given)
    call()
    call()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    took = [seconds(call) for _ in range(CALLS)]
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / CALLS
    return {"ms": 1000 * median(took), "faults": faults, "memory": peak_memory_mb()}


def predicting(name: str, clips: int, engine: str, precision: Precision) -> Callable[[], object]:
    model = create_model(name).eval()
    model.name = name
    opened = open_engine(model, engine, "cpu", precision)
    return partial(opened.run, a_clip(model, clips))


def learning(name: str, clips: int) -> Callable[[], object]:
    model = create_model(name, 8).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    clip, labels = to_clip(a_clip(model, clips), model.spec), torch.arange(clips) % 8

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(clip).float(), labels)
        loss.backward()
        optimizer.step()

    return step
