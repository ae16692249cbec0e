"""Memory and time of one training step on a long video: one graph over all frames against the streamed one.

Each measurement runs in a process of its own, so that its peak of resident memory is its own.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.child import in_child
from benchmarks.record import Table, Value, seconds
from foveate.measure.cost import peak_memory_mb
from foveate.models.fullvideo import FullVideo
from foveate.models.zoo import create_model

FRAMES = (32, 128, 512, 2048)
LONG = 10_000  # frames, streamed only
SIDE = 112  # pixels
MODELS = ("fullvideo_r18_32to8", "fullvideo_r50_32to8")
MOST = 12_000  # MB that a plain graph may be expected to need; larger ones are left out
PLAIN_MB = {"fullvideo_r18_32to8": 4.0, "fullvideo_r50_32to8": 14.0}  # a frame, for that expectation
CLUSTERED = 256  # frames of the comparison of times


def run() -> Table:
    """Peak growth of resident memory and seconds of a step; the share of clustering in the early part."""
    rows: list[dict[str, Value]] = []
    for name in MODELS:
        for early in ("whole", "kept", "streamed"):
            for frames in (*FRAMES, LONG):
                if _fits(name, early, frames):
                    step = in_child(measure_step, name, early, frames)
                    rows.append({"model": name, "early": early, "frames": frames, **step, "share": ""})
        answer = in_child(measure_answer, name)
        rows.append({"model": name, "early": "streamed, answer", "frames": LONG, **answer, "share": ""})
        share = in_child(measure_share, name)
        rows.append({"model": name, "early": "no gradient", "frames": CLUSTERED, **share})
    about = (
        f"One training step of one video of {SIDE} x {SIDE} pixels, clustered to 8, in a process of its own. "
        "Whole: one graph. Kept: chunk by chunk, maps of the early part held between its passes. Streamed: "
        "nothing held but bytes. Answer: the logits alone, without a gradient. The last row of a model is "
        "the time that clustering adds to its early part."
    )
    columns = {
        "model": "model",
        "early": "early part",
        "frames": "frames",
        "memory": "peak memory growth, MB",
        "seconds": "seconds",
        "share": "clustering / early part, %",
    }
    return Table(about, columns, rows)


def _fits(name: str, early: str, frames: int) -> bool:
    if early == "whole":
        return PLAIN_MB[name] * frames < MOST
    return frames <= LONG and (early == "streamed" or frames <= max(FRAMES))


def measure_step(name: str, early: str, frames: int) -> dict[str, Value]:
    """What the second step takes, the first being a short one that warms PyTorch up."""
    model = _model(name, early).train()
    step(model, video(8))
    long = video(frames)
    before = peak_memory_mb()
    start = time.perf_counter()
    step(model, long)
    return {"memory": peak_memory_mb() - before, "seconds": time.perf_counter() - start}


def measure_answer(name: str) -> dict[str, Value]:
    """What the logits of a long video take."""
    model = _model(name, "streamed").eval()
    with torch.inference_mode():
        model.trace_videos([video(8)])
        long = video(LONG)
        before = peak_memory_mb()
        taken = seconds(lambda: model.trace_videos([long]))
    return {"memory": peak_memory_mb() - before, "seconds": taken}


def measure_share(name: str) -> dict[str, Value]:
    """Seconds of the early part on some frames, and what clustering them takes beside it, in percent."""
    model = _model(name, "whole").eval()
    with torch.inference_mode():
        chunks = video(CLUSTERED).split(model.config.chunk)
        before = peak_memory_mb()
        maps: list[Tensor] = []
        model.early(chunks[0])
        early = seconds(lambda: maps.extend(model.early(chunk) for chunk in chunks))
        joined = torch.cat(maps)
        clustering = min(seconds(lambda: model.clustering(joined, [CLUSTERED])) for _ in range(3))
    grown = peak_memory_mb() - before
    return {"memory": grown, "seconds": early, "share": 100 * clustering / early}


def step(model: FullVideo, frames: Tensor) -> None:
    """Forward and backward of one video."""
    logits = model.trace_videos([frames]).logits
    F.cross_entropy(logits, torch.tensor([0])).backward()


def video(frames: int) -> Tensor:
    """Bytes (T, S, S, 3), a texture that moves."""
    draw = torch.Generator().manual_seed(0)
    wide = torch.randint(0, 256, (SIDE, SIDE + 64, 3), dtype=torch.uint8, generator=draw)
    return torch.stack([wide[:, (t // 4) % 64 :][:, :SIDE] for t in range(frames)])


def _model(name: str, early: str) -> FullVideo:
    torch.manual_seed(0)
    model = create_model(name, 4, early=early, size=SIDE, resize=SIDE)
    assert isinstance(model, FullVideo)
    return model.to(memory_format=torch.channels_last)
