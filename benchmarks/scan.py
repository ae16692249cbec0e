"""Reading long lists and checking many files, beside an earlier commit, in turns, each in its own process.

The sources of the earlier commit are checked out into a temporary folder; both read the same files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.folder import make_folder
from benchmarks.record import WORK, Spread, Table, Value, ratio
from foveate.data.synthetic import FiguresConfig, render_clip
from foveate.data.synthetic.encode import encode_h264

ROOT = Path(__file__).parents[1]
EARLIER = "4bfffeb"  # a list was taken apart line by line, and a file was opened twice to be checked
LINES, FILES, SMALL = 1_000_000, 100_000, 2000
DISTINCT = 50  # of the small files; the others are copies

READ = """
import json, sys, time
from foveate.data.lists import read_list
wall, processor = time.perf_counter(), time.process_time()
assert len(read_list(sys.argv[1])) == int(sys.argv[2])
times = [time.perf_counter() - wall, time.process_time() - processor]
status = open("/proc/self/status").read()  # resource.getrusage counts the parent's memory as well
print(json.dumps([*times, int(status.split("VmHWM:")[1].split()[0]) / 1024]))
"""
CHECK = """
import json, sys, time
from pathlib import Path
from foveate.data.check import check_videos
options = {"quick": True} if sys.argv[2] == "quick" else {}
files = sorted(Path(sys.argv[1]).glob("*.mp4"))
list(check_videos(files[:1], **options))
wall, processor = time.perf_counter(), time.process_time()
assert {row.status for row in check_videos(files, **options)} == {"ok"}
times = [time.perf_counter() - wall, time.process_time() - processor]
status = open("/proc/self/status").read()  # resource.getrusage counts the parent's memory as well
print(json.dumps([*times, int(status.split("VmHWM:")[1].split()[0]) / 1024]))
"""
WHOLE = """
import json, resource, subprocess, sys, time
wall = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([time.perf_counter() - wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
Times = tuple[float, float, float]  # seconds of wall and processor, peak memory in MB
Call = Callable[[], Times]
COLUMNS = {
    "what": "what",
    "beside": "beside",
    "then": "that, s",
    "now": "now, s",
    "times": "times as fast",
    "then_processor": "that, processor, s",
    "now_processor": "now, processor, s",
    "times_processor": "times less",
    "memory": "now, peak memory, MB",
}


def run_lists() -> Table:
    """Lists of a million lines, and a folder of a hundred thousand files."""
    with tempfile.TemporaryDirectory() as folder, earlier() as before:
        rows = [
            compared(what, EARLIER, partial(python, before, *words), partial(python, ROOT, *words), 2)
            for what, path, count in long_lists(Path(folder))
            for words in [("-c", READ, str(path), str(count))]
        ]
    about = (
        f"`read_list` of {LINES:,} lines and of a folder of {FILES:,} empty files. Others on the machine "
        f"change processor seconds less than those of the wall. Memory is that of the whole process. {load()}"
    )
    return Table(about, COLUMNS, rows)


def run() -> Table:
    """`foveate data check` of many small files, and of some of 10 s."""
    small, large = small_files(), make_folder(WORK / "folder")[0].parent
    with tempfile.TemporaryDirectory() as scratch, earlier() as before:
        then = partial(check, before, small, Path(scratch) / "then.jsonl")
        fresh = partial(check, ROOT, small, Path(scratch) / "now.jsonl")
        again = partial(check, ROOT, small, Path(scratch) / "again.jsonl", keep=True)
        again()
        rows = [
            compared(f"{SMALL} files of 2 s, 128x96", EARLIER, then, fresh),
            compared(f"{SMALL} files, of which the manifest has rows", EARLIER, then, again),
            compared(f"{SMALL} files, --quick", "the full check", fresh, partial(fresh, quick=True)),
        ]
        words = [("-c", CHECK, str(large), mode) for mode in ("full", "quick")]
        full, quick = (partial(python, ROOT, *each) for each in words)
        rows.append(compared("12 files of 10 s, 456x256, quick=True", "the full check", full, quick))
    about = (
        "`foveate data check FOLDER --out MANIFEST` from the start of the command to its end, with as many "
        "processes as it takes by itself (two here, at both commits), in turns. The last row is "
        f"`check_videos` in one process, without its start. The small files are {DISTINCT} "
        f"made figures in H.264, copied. {load()}"
    )
    return Table(about, COLUMNS, rows)


def compared(what: str, beside: str, then: Call, now: Call, repeats: int = 3) -> dict[str, Value]:
    """One row of both in turns."""
    found: dict[str, list[Times]] = {"then": [], "now": []}
    for _ in range(repeats):
        found["then"].append(then())
        found["now"].append(now())
    walls, processors = ({name: [one[k] for one in each] for name, each in found.items()} for k in (0, 1))
    return {
        "what": what,
        "beside": beside,
        "then": Spread.of(walls["then"]),
        "now": Spread.of(walls["now"]),
        "times": ratio(walls["then"], walls["now"]),
        "then_processor": Spread.of(processors["then"]),
        "now_processor": Spread.of(processors["now"]),
        "times_processor": ratio(processors["then"], processors["now"]),
        "memory": max(memory for _, _, memory in found["now"]),
    }


@contextmanager
def earlier() -> Iterator[Path]:
    """The sources of the earlier commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "earlier"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), EARLIER], check=True, capture_output=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def python(tree: Path, *words: str) -> Times:
    """What a process with the sources of a tree prints as JSON."""
    command, places = [sys.executable, *words], os.environ | {"PYTHONPATH": str(tree / "src")}
    done = subprocess.run(command, env=places, capture_output=True, text=True, check=True)
    wall, processor, memory = json.loads(done.stdout)
    return wall, processor, memory


def check(tree: Path, folder: Path, out: Path, keep: bool = False, quick: bool = False) -> Times:
    """A whole command, with the processor seconds and the largest memory of all its processes."""
    if not keep:
        out.unlink(missing_ok=True)
    words = [
        "-m",
        "foveate",
        "data",
        "check",
        str(folder),
        "--out",
        str(out),
        *(["--quick"] if quick else []),
    ]
    return python(tree, "-c", WHOLE, *words)


def long_lists(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Name, path and number of videos of each list; the videos themselves are not there."""
    names = [f"videos/class_{i % 400:03}/clip_{i:07}.mp4" for i in range(LINES)]
    classes = json.dumps({"foveate": 1, "classes": [f"class_{i:03}" for i in range(400)]})
    forms = {
        "txt": ["", *(f"{name} {i % 400}" for i, name in enumerate(names))],
        "csv": ["path,label", *(f"{name},class_{i % 400:03}" for i, name in enumerate(names))],
        "jsonl": [classes, *(f'{{"path": "{name}", "labels": [{i % 400}]}}' for i, name in enumerate(names))],
    }
    titles = {"txt": "path label", "csv": "CSV with a header", "jsonl": "Foveate's JSONL"}
    for suffix, lines in forms.items():
        path = folder / f"list.{suffix}"
        path.write_text("\n".join(lines).lstrip("\n") + "\n")
        yield f"{titles[suffix]}, {LINES:,} lines", path, LINES
    for name in names[:FILES]:
        path = folder / "walk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    yield f"a folder of {FILES:,} files", folder / "walk/videos", FILES


def small_files() -> Path:
    """The folder of small files, made once."""
    folder = WORK / "small"
    folder.mkdir(parents=True, exist_ok=True)
    config = FiguresConfig(width=128, height=96, frames=50, fps=25)
    for number in range(SMALL):
        path, first = folder / f"{number:04}.mp4", folder / f"{number % DISTINCT:04}.mp4"
        if not path.exists():
            made = number < DISTINCT
            data = encode_h264(render_clip(config, number).frames, 25, 25) if made else first.read_bytes()
            path.write_bytes(data)
    return folder


def load() -> str:
    """How busy the machine is, as a sentence."""
    return f"Load of the machine over 15 minutes: {os.getloadavg()[2]:.1f}."
