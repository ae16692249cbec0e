"""What the models do on a GPU: `python -m benchmarks.gpu [--minutes 8]`, to be run where there is one.

Answers are compared with those of the CPU in float32 first; a number of a model whose answers differ is not
written. Then latency, throughput and training steps by precision. What the time does not suffice for is
named in the table's text. `--device cpu --models tsn_r10_8` tries the script itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from benchmarks.engines import made
from benchmarks.record import Spread, Table, Value, write
from foveate.choices import Precision
from foveate.infer.choice import TOLERANCE, a_clip, relative_error, same_decisions
from foveate.infer.engine import EagerEngine
from foveate.models.base import VideoModel

MODELS = (
    "tsm_r50_8",
    "adafocus_mnv2_r50_128",
    "adafocus_v2_mnv2_r50_128",
    "slowfast_r50_8x8",
    "x3d_m",
    "blvnet_tam_r50_8x2",
    "fullvideo_r18_32to8",
    "arnet_r50_16",
)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
BATCH = 16  # clips of a throughput and of a training step
REPEATS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new is begun")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batch", type=int, default=BATCH, help="clips at once")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("error: cuda: PyTorch finds no GPU (run this where there is one)", file=sys.stderr)
        return 2
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    until = time.monotonic() + 60 * given.minutes
    rows: list[dict[str, Value]] = []
    left_out: list[str] = []
    for name in given.models:
        if time.monotonic() > until:
            left_out.append(name)
            continue
        rows += rows_of(name, torch.device(given.device), given.batch)
    print(write("gpu", table(rows, left_out, given.device, given.batch)).read_text())
    return 0


def table(rows: list[dict[str, Value]], left_out: list[str], device: str, batch: int) -> Table:
    name = torch.cuda.get_device_name() if device == "cuda" else "a CPU, which is a trial of the script"
    about = (
        f"On {name}. A clip of the model's own shape from uint8 frames in memory to the answer, alone and "
        f"{batch} at once; a training step of {batch} clips by autocast. The error is that of the logits "
        "against the CPU in float32, relative to the largest; fp32 is without TF32."
    )
    about += f" Not begun within the time: {', '.join(left_out)}." if left_out else ""
    columns = {
        "model": "model",
        "precision": "precision",
        "error": "error",
        "decisions": "decisions",
        "ms": "ms a clip, alone",
        "rate": "clips a second",
        "step": "ms a training step",
        "memory": "peak of the step, MB",
    }
    return Table(about, columns, rows)


def rows_of(name: str, device: torch.device, batch: int) -> list[dict[str, Value]]:
    """A row for each precision."""
    model = made(name)
    clip, clips = a_clip(model), a_clip(model, batch)
    reference = EagerEngine(model, "cpu").run(clip)
    rows: list[dict[str, Value]] = []
    for precision in PRECISIONS:
        engine = EagerEngine(model, device, precision)
        output = engine.run(clip)
        error = relative_error(output.logits.cpu(), reference.logits)
        row: dict[str, Value] = {"model": name, "precision": precision, "error": error}
        row["decisions"] = "same" if same_decisions(output, reference) else "others"
        wrong = not error <= TOLERANCE[precision]  # NaN is wrong
        row |= dict.fromkeys(("ms", "rate", "step", "memory"), "wrong answers" if wrong else "")
        if not wrong:
            row["ms"] = Spread.of([1000 * took for took in timed(partial(engine.run, clip), device)])
            row["rate"] = Spread.of([batch / took for took in timed(partial(engine.run, clips), device)])
            row["step"], row["memory"] = training(made(name), clips, precision, device)
        rows.append(row)
    model.to("cpu")
    return rows


def training(
    model: VideoModel, frames: torch.Tensor, precision: Precision, device: torch.device
) -> tuple[Spread | str, float | str]:
    """Milliseconds of a step of SGD and its peak of memory; what went wrong in their place."""
    model = model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-6, momentum=0.9)
    labels = torch.arange(len(frames), device=device) % model.num_classes

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(model(model.prepare(frames, device)).float(), labels)
        loss.backward()
        optimizer.step()

    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        took = timed(step, device)
        peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else ""
        return Spread.of([1000 * each for each in took]), peak
    except torch.OutOfMemoryError:
        return "too little memory", ""
    finally:
        model.eval()


def timed(call: Callable[[], object], device: torch.device) -> list[float]:
    """Seconds of each of some calls, after two unseen ones."""
    times = []
    for turn in range(REPEATS + 2):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn > 1:
            times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    sys.exit(main())
