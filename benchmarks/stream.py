"""`foveate stream` itself: an hour as fast as it goes, the delay of labels in real time, a source that drops.

Each row is a process of its own, as a user starts it, whose JSON lines are read and whose resident memory is
looked at from outside. Each finished row is written at once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch

from benchmarks.decode import real_clips
from benchmarks.record import WORK, Table, Value, write
from benchmarks.servers import Broadcast, looped, transport_stream
from foveate.data.synthetic.encode import encode_h264
from foveate.models.zoo import create_model
from foveate.video import open_video
from foveate.video.transform import resize
from foveate.weights.file import save_model

SMALL = "tsm_r10_8, one-sided, a quarter as wide, 48 pixels"
HOUR_S = 3600
REAL_TIME_S = 60
SAMPLE_S = 30.0  # between two looks at the memory
ENOUGH = 10  # samples that tell whether it grows
SETTLED = 1  # samples of the memory before it is compared: what is loaded late is there by then
DROPS = 10
COMPILED = ("--engine", "openvino", "--precision", "bf16")
REAL_TIME: Sequence[tuple[str, Sequence[str]]] = (  # model, options
    ("tsm_mnv2_8_online", ("--every", "0.04")),
    ("tsm_r50_8_online", ("--every", "0.04")),
    ("tsm_r50_8_online", ()),
    ("adafocus_mnv2_r50_128", ("--every", "0.2")),
    ("adafocus_mnv2_r50_128", ()),
    ("x3d_s", ()),
    ("slowfast_r50_4x16", ()),
    ("tsm_r50_8_online", COMPILED),
    ("adafocus_mnv2_r50_128", COMPILED),
    ("slowfast_r50_4x16", COMPILED),
)
COLUMNS = {
    "what": "what",
    "model": "model",
    "options": "options",
    "seconds": "seconds of video",
    "took": "seconds taken",
    "labels": "labels",
    "frames": "frames",
    "dropped": "dropped",
    "reconnects": "reconnects",
    "p50": "latency p50, ms",
    "p90": "p90",
    "p99": "p99",
    "memory": "memory after half a minute, MB",
    "drift": "furthest from that later",
}


def run() -> Table:
    """All rows, the longest first."""
    online = model_file("tsm_r10_8", temporal="past", width=0.25, size=48, resize=48)
    words = [str(hour()), "--every", "0.04"]
    rows = [_measured("an hour of 320x240, as fast as it goes", SMALL, online, words)]
    write("stream", _table(rows))
    clip = looped(real_clips()[1], WORK / "stream_minute.mp4", REAL_TIME_S)
    for name, options in REAL_TIME:
        words = [str(clip), *options, "--realtime", "--seconds", str(REAL_TIME_S)]
        rows.append(_measured("real time, 640x272", name, model_file(name), words))
        write("stream", _table(rows))
    with Broadcast(transport_stream(250, 25, 320, 240), DROPS, 3.0, 3.0) as broadcast:
        words = [broadcast.url, "--every", "0.04", "--reconnect", "1"]
        rows.append(_measured("a server that hangs up ten times", SMALL, online, words))
    return _table(rows)


def _table(rows: Sequence[dict[str, Value]]) -> Table:
    about = (
        "`foveate stream`, one process a row, in one thread, eager float32 if nothing else is said, "
        "untrained weights. Latency: from the decoded frame to its label. The video has 25 frames a second; "
        "with --every 0.04 each of them "
        f"has a label. Memory is what is resident, looked at every {SAMPLE_S:g} s; the JSON has all samples. "
        f"Load of the machine over 15 minutes at the end: {os.getloadavg()[2]:.1f}."
    )
    return Table(about, COLUMNS, rows)


def _measured(what: str, name: str, model: Path, words: Sequence[str]) -> dict[str, Value]:
    """One row. words: of the command line, the source first, without the model."""
    command = [sys.executable, "-m", "foveate", "stream", *words, "--model", str(model), "--json"]
    command += [] if "--engine" in words else ["--engine", "eager"]
    begun, last, ended = time.perf_counter(), "", Event()
    memory: list[float] = []
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        sampler = Thread(target=_sample, args=(child.pid, memory, ended))
        sampler.start()
        assert child.stdout is not None
        for line in child.stdout:
            before, last = last, line
        ended.set()
        sampler.join()
        if child.wait() not in (0, 3):
            said.seek(0)
            raise RuntimeError(said.read().decode()[-2000:])
    took = time.perf_counter() - begun
    summary, final = json.loads(last)["summary"], json.loads(before)
    settled = memory[SETTLED:] or memory[-1:]
    return {
        "what": what,
        "model": name,
        "options": " ".join(words[1:]) or "none",
        "seconds": float(final["time_s"]),
        "took": took,
        **{key: summary[key] for key in ("labels", "frames", "dropped", "reconnects")},
        **{f"p{percent}": summary["latency_ms"][f"p{percent}"] for percent in (50, 90, 99)},
        "memory": settled[0],
        "drift": _drift(settled),
        "samples_mb": ", ".join(f"{each:.2f}" for each in memory),
    }


def _drift(memory: Sequence[float]) -> str:
    """The sample furthest from the first one, relative to it; of a short run nothing."""
    furthest = max(memory, key=lambda each: abs(each - memory[0]))
    return f"{furthest / memory[0] - 1:+.2%}" if len(memory) >= ENOUGH else "-"


def _sample(pid: int, found: list[float], ended: Event) -> None:
    """Resident memory in MB, every SAMPLE_S; the first once the process has begun."""
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        if match := re.search(r"VmRSS:\s*(\d+) kB", status):
            found.append(int(match[1]) * 1024 / 1e6)
        if ended.wait(SAMPLE_S):
            return


def model_file(name: str, **fields: object) -> Path:
    """An untrained model as a file, made once."""
    kind = "_".join([name, *map(str, fields.values())])
    path = WORK / f"{kind}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        model = create_model(name, **fields).eval()
        model.labels = tuple(f"class {number}" for number in range(model.num_classes))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(model, path)
    return path


def hour() -> Path:
    """An hour of 320x240 at 25 frames a second: ten seconds of a real clip, again and again."""
    out = WORK / "stream_hour.mp4"
    if out.exists():
        return out
    short = WORK / "stream_ten_seconds.mp4"
    with open_video(real_clips()[1]) as video:
        frames = torch.from_numpy(video.read(np.arange(250) % video.info.frames))
    short.parent.mkdir(parents=True, exist_ok=True)
    short.write_bytes(encode_h264(resize(frames, 240, 320).numpy(), 25, 26))
    return looped(short, out, HOUR_S)
