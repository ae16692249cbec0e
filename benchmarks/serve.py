"""A crowd at `foveate serve`: 64 clients for a minute, beside what `foveate batch` makes of the same videos.

The server is a process of its own, as from the command line, with its usual limits. Each client sends one
video after the other; one that is told to come back waits as long as it was told (patient), or a tenth of a
second (impatient). Meanwhile another client asks for its health, and the memory of the server and of its
readers is watched.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import psutil

from benchmarks.batch import GROUP, model_named
from benchmarks.child import in_child
from benchmarks.folder import make_folder
from benchmarks.record import WORK, Table, Value, seconds, write
from foveate.batch.answer import Answering
from foveate.data.lists import VideoEntry
from foveate.data.pool import usual_workers
from foveate.infer.engine import open_engine
from foveate.infer.isolated import IsolatedReader
from foveate.infer.read import ClipReader
from foveate.weights.file import save_model

CLIENTS, SECONDS = 64, 60.0
MODELS = ("adafocus_small", "tsm_r50_8")
HEALTH_EVERY_S = 0.05
IMPATIENT_S = 0.1
GONE = "gone"
REPEATS = 3  # of the batch


def run() -> Table:
    """A row for each model and kind of client; written as they come."""
    paths = make_folder(WORK / "folder")
    rows: list[dict[str, Value]] = []
    for name in MODELS:
        batch = in_child(batch_of, name, paths * 3)
        for patient in (True, False):
            rows.append(row_of(name, paths, patient, batch))
            table = _table(rows)
            write("serve", table)
    return table


def _table(rows: Sequence[dict[str, Value]]) -> Table:
    about = (
        f"{CLIENTS} clients for {SECONDS:.0f} s beside the server, H.264 files of 10 s, 456x256. "
        "Server: two readers, a queue of 8, the fastest engine. Drift: memory of server and readers, "
        "median of the last ten seconds against that of seconds 10 to 20. Batch: the same "
        f"videos by `foveate batch`'s own parts, {GROUP} at once. Ended: seconds from SIGTERM amid requests "
        f"to the end of the process. Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
    )
    columns = {
        "model": "model",
        "clients": "clients",
        "answered": "answered, videos a second",
        "batch": "batch, videos a second",
        "ok": "200",
        "busy": "429",
        "draining": "503 while it was ended",
        "other": "anything else",
        "p50": "answer, median ms",
        "health": "health, 99th percentile ms",
        "drift": "memory, drift %",
        "memory": "memory, MB",
        "left": "temporary files left",
        "ended": "ended after, s",
    }
    return Table(about, columns, rows)


def batch_of(name: str, paths: Sequence[Path]) -> float:
    """Videos a second of a batch."""
    model = model_named(name)
    engine = open_engine(model, "auto")
    reader = ClipReader(model.spec, needed=model.frames_needed, in_chunks=model.takes_chunks)
    entries = [VideoEntry(str(path)) for path in paths]
    with IsolatedReader(reader, usual_workers()) as isolated:
        answering = Answering(engine, isolated, GROUP)
        times = [
            seconds(lambda: list(answering.rows(entries, range(len(entries))))) for _ in range(REPEATS + 1)
        ]
    return len(paths) / median(times[1:])


def row_of(name: str, paths: Sequence[Path], patient: bool, batch: float) -> dict[str, Value]:
    """What a crowd meets."""
    videos = [path.read_bytes() for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "temporary"
        temporary.mkdir()
        file = Path(folder) / f"{name}.safetensors"
        save_model(model_named(name), file)
        command = [sys.executable, "-m", "foveate", "serve", str(file), "--no-examples", "--port", "0"]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("open http"))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        crowd = Crowd(int(line.split(":")[2].partition("/")[0]), videos, patient)
        crowd.run(psutil.Process(process.pid))
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        ended = time.monotonic() - asked
        crowd.end()
        left = sum(1 for path in temporary.rglob("*") if path.is_file())
    row: dict[str, Value] = {"model": name, "clients": "patient" if patient else "impatient", "batch": batch}
    return row | crowd.row() | {"left": left, "ended": ended}


class Crowd:
    """Clients of a server on this machine."""

    def __init__(self, port: int, videos: Sequence[bytes], patient: bool) -> None:
        self.port = port
        self.videos = videos
        self.patient = patient
        self.ending = False
        self.over = threading.Event()
        self.statuses: Counter[str] = Counter()
        self.in_time = 0  # answers before the server was ended
        self.waited: list[float] = []
        self.health: list[float] = []
        self.memory: list[tuple[float, float]] = []  # seconds since the start, MB
        jobs = [partial(self._client, number) for number in range(CLIENTS)]
        self.threads = [threading.Thread(target=job, daemon=True) for job in (*jobs, self._watch_health)]

    def run(self, process: psutil.Process) -> None:
        started = time.monotonic()
        for thread in self.threads:
            thread.start()
        while (now := time.monotonic() - started) < SECONDS:
            self.memory.append((now, _memory_mb(process)))
            time.sleep(0.5)
        self.in_time = self.statuses["200"]
        self.ending = True

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def row(self) -> dict[str, Value]:
        early = median(mb for at, mb in self.memory if 10 <= at < 20)
        late = median(mb for at, mb in self.memory if at >= SECONDS - 10)
        known = {name: self.statuses[name] for name in ("200", "429", "503")}
        other = {name: n for name, n in self.statuses.items() if name not in (*known, GONE)}
        return {
            "answered": self.in_time / SECONDS,
            "ok": known["200"],
            "busy": known["429"],
            "draining": known["503"],
            "other": ", ".join(f"{n} {name}" for name, n in other.items()) or "none",
            "p50": 1000 * median(self.waited),
            "health": 1000 * quantiles(self.health, n=100)[98],
            "drift": 100 * (late / early - 1),
            "memory": late,
        }

    def _client(self, number: int) -> None:
        while not self.over.is_set():
            number += 1
            begun = time.monotonic()
            status, retry_s = self._post(self.videos[number % len(self.videos)])
            self.statuses[status] += 1
            if status == "200":
                self.waited.append(time.monotonic() - begun)
            else:
                self.over.wait(retry_s if self.patient else IMPATIENT_S)
            if self.ending and status == GONE:
                return

    def _post(self, video: bytes) -> tuple[str, float]:
        """Status, and how long to wait; GONE where a server that is being ended takes no connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/v1/predict", video)
            answer = connection.getresponse()
            answer.read()
            status = str(answer.status)
            if status == "503" and not self.ending:
                status = "503 before the end"
            return status, float(answer.headers.get("Retry-After", 1))
        except (OSError, http.client.HTTPException) as error:
            return (GONE if self.ending else type(error).__name__), 1.0
        finally:
            connection.close()

    def _watch_health(self) -> None:
        self.health = in_child(ask_health, self.port)


def ask_health(port: int) -> list[float]:
    """Seconds that each of many questions took; from a process without other work."""
    took, until = [], time.monotonic() + SECONDS - 20  # as this process takes a while to start
    while (begun := time.monotonic()) < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health/live")
        connection.getresponse().read()
        connection.close()
        took.append(time.monotonic() - begun)
        time.sleep(HEALTH_EVERY_S)
    return took


def _memory_mb(process: psutil.Process) -> float:
    """Resident memory of a process and its children; what they share counts once, in the first."""
    total = process.memory_info().rss
    for child in process.children(recursive=True):
        try:
            total += child.memory_full_info().uss
        except psutil.Error:
            continue
    return total / 1e6
