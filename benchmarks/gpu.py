"""What the models do on a GPU: `python -m benchmarks.gpu`, to be run where there is one, takes 8 minutes.

Answers are compared with those of the CPU in float32. The results are written after every row, so that what
was measured is kept if the process is killed; what the time does not suffice for is named. A row that fails
says so and the next one begins. `--device cpu --models tsm_r10_8 --batches 2 --repeats 2 --out FOLDER` tries
the script.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.engines import made
from benchmarks.record import RESULTS, Spread, Table, Value, write
from foveate.choices import Precision
from foveate.infer.choice import TOLERANCE, a_clip, relative_error, same_decisions
from foveate.infer.compiled import first_line
from foveate.infer.cuda import TorchCompileEngine
from foveate.infer.engine import AUTOCAST, EagerEngine, Engine, open_engine
from foveate.layers.order import set_order
from foveate.models.base import ModelOutput, VideoModel

MODELS = (
    "tsm_r50_8",
    "adafocus_mnv2_r50_128",
    "slowfast_r50_8x8",
    "x3d_m",
    "adafocus_v2_mnv2_r50_128",
    "blvnet_tam_r50_8x2",
    "fullvideo_r18_32to8",
    "arnet_r50_16",
)
PASSES: tuple[tuple[str, tuple[Precision, ...]], ...] = (  # over all models
    ("eager", ("fp32", "fp16", "bf16")),
    ("compile", ("fp16",)),  # it takes long: every model once before any of them again
    ("compile", ("bf16", "fp32")),
)
SECONDS = {"eager": 10.0, "compile": 60.0}  # a row may take, until one has taken longer
BATCHES = (8, 32)
DIFFERENT = 8  # clips of a batch; larger ones repeat them
REPEATS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="no row begins that might end later")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="clips at once, rising")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of each call, at least 2")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of gpu.json and gpu.md")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("error: cuda: PyTorch finds no GPU (run this where there is one)", file=sys.stderr)
        return 2
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    until = time.monotonic() + 60 * given.minutes
    takes, rows, left_out = dict(SECONDS), [], []
    for engine, precisions in PASSES:
        for name in given.models:
            trial: Trial | None = None
            for precision in precisions:
                begun = time.monotonic()
                if begun + takes[engine] > until:
                    left_out.append(f"{name} {engine} {precision}")
                    continue
                trial = trial or Trial(name, device, given.batches, given.repeats)
                rows.append(trial.row(engine, precision))
                takes[engine] = max(takes[engine], time.monotonic() - begun)
                written = table(rows, left_out, device, given.batches)
                command = " ".join(["python -m benchmarks.gpu", *(arguments or sys.argv[1:])])
                path = write("gpu", written, given.out, command)
                print(f"{time.monotonic() - begun:.0f} s: {name} {engine} {precision}", flush=True)
    if not rows:
        print("error: --minutes: no row fits into so little time (give more)", file=sys.stderr)
        return 2
    path = write("gpu", table(rows, left_out, device, given.batches), given.out, command)
    print(path.read_text())
    return 0


def table(
    rows: Sequence[dict[str, Value]], left_out: Sequence[str], device: torch.device, batches: Sequence[int]
) -> Table:
    """The rows so far, by model."""
    on = "a CPU, which is a trial of the script: what `compile` runs there is not compiled"
    if device.type == "cuda":
        on = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    tolerances = ", ".join(f"{kind} {TOLERANCE[kind]:g}" for kind in PASSES[0][1])
    about = (
        f"On {on}. Clips of the model's own shape from uint8 frames in memory to the answer; untrained "
        "weights, norms drawn at random. The error is that of the logits of a clip against the CPU in fp32, "
        f"relative to the largest; tolerances: {tolerances}. Without TF32. Ahead: the next batch is copied "
        f"while the model runs. A training step of {batches[0]} clips is by autocast, in eager mode."
    )
    about += f" Not begun within the time: {', '.join(left_out)}." if left_out else ""
    columns = {
        "model": "model",
        "engine": "engine",
        "answers": "answers",
        "error": "error",
        "decisions": "decisions",
        "first": "first clip, s",
        "ms": "ms a clip, alone",
        **{f"rate_{batch}": f"clips a second, {batch} at once" for batch in batches},
        "ahead": f"{batches[-1]} at once, ahead",
        "memory": f"peak of {batches[-1]}, MB",
        "step": "ms a training step",
        "step_memory": "peak of the step, MB",
    }
    places = {name: place for place, name in enumerate(dict.fromkeys(str(row["model"]) for row in rows))}
    sorted_rows = sorted(rows, key=lambda row: places[str(row["model"])])
    return Table(about, columns, [dict.fromkeys(columns, "") | row for row in sorted_rows])


class Trial:
    """One model on a device, measured by engine and precision."""

    def __init__(self, name: str, device: torch.device, batches: Sequence[int], repeats: int) -> None:
        self.name = name
        self.device = device
        self.repeats = repeats
        self.model = made(name)
        clips = a_clip(self.model, DIFFERENT)
        self.clip = clips[:1]
        self.batches = {batch: clips[torch.arange(batch) % DIFFERENT] for batch in batches}
        self.reference: ModelOutput = EagerEngine(self.model, "cpu").run(self.clip)

    def row(self, engine: str, precision: Precision) -> dict[str, Value]:
        """All that could be measured; `answers` says what failed."""
        row: dict[str, Value] = {"model": self.name, "engine": f"{engine} {precision}"}
        try:
            self._measure(row, engine, precision)
        except Exception as error:  # of whatever kind; the other rows are to be measured all the same
            traceback.print_exc()
            row["answers"] = f"fails: {first_line(error)}"
        return row

    def _measure(self, row: dict[str, Value], engine: str, precision: Precision) -> None:
        start = time.perf_counter()
        runner = opened(self.model, engine, self.device, precision)
        output = runner.run(self.clip)
        error = relative_error(output.logits.cpu(), self.reference.logits)
        row["first"] = time.perf_counter() - start
        row["error"] = error
        row["decisions"] = "same" if same_decisions(output, self.reference) else "others"
        row["answers"] = "agree" if error <= TOLERANCE[precision] else "differ"  # as NaN does
        row["ms"] = Spread.of([1000 * took for took in self._timed(partial(runner.run, self.clip))])
        for batch, clips in self.batches.items():
            self._forget_peak()
            row[f"rate_{batch}"] = _rate(batch, self._timed(partial(runner.run, clips)))
        row["memory"] = self._peak()
        row["ahead"] = _rate(batch, self._timed(copied_ahead(runner, clips)))
        if engine == "eager":
            self._forget_peak()
            step = training_step(self.model, next(iter(self.batches.values())), precision, self.device)
            row["step"] = Spread.of([1000 * took for took in self._timed(step)])
            row["step_memory"] = self._peak()

    def _timed(self, call: Callable[[], object]) -> list[float]:
        """Seconds of each of some calls, after two unseen ones."""
        times = []
        for _ in range(self.repeats + 2):
            start = time.perf_counter()
            call()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - start)
        return times[2:]

    def _forget_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _peak(self) -> Value:
        return torch.cuda.max_memory_allocated(self.device) / 1e6 if self.device.type == "cuda" else ""


def opened(model: VideoModel, engine: str, device: torch.device, precision: Precision) -> Engine:
    """An engine on a device; on the CPU the parts go through torch.compile without being compiled."""
    torch._dynamo.reset()  # what other models compiled counts towards its limits
    if device.type == "cpu" and engine == "compile":
        return TorchCompileEngine(model, device, precision, "eager")
    return open_engine(model, engine, device, precision)


def copied_ahead(engine: Engine, clips: Tensor) -> Callable[[], None]:
    """A call that sends the clips of the next call and runs those that the call before sent."""
    sent = [engine.send(clips)]

    def call() -> None:
        sent.append(engine.send(clips))
        engine.run(sent.pop(0))

    return call


def training_step(
    model: VideoModel, frames: Tensor, precision: Precision, device: torch.device
) -> Callable[[], None]:
    """A step of SGD on a copy of the model."""
    model = copy.deepcopy(model).to(device).train()
    set_order(model, channels_last=device.type == "cuda")
    optimizer = torch.optim.SGD(model.parameters(), 1e-6, momentum=0.9)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    labels = torch.arange(len(frames), device=device) % model.num_classes

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            loss = torch.nn.functional.cross_entropy(model(model.prepare(frames, device)).float(), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _rate(batch: int, times: Sequence[float]) -> Spread:
    return Spread.of([batch / took for took in times])


if __name__ == "__main__":
    sys.exit(main())
