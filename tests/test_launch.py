"""Several processes that one command starts: whichever is killed, and whenever, the weights are the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.record import Table, write
from safetensors.torch import load_file

from foveate.data.synthetic import make_move4mnist

TINY = [
    *("--model", "tsm_r10_8", "--batch", "4", "--workers", "1", "--rate", "0.1"),
    *("--settings", "width=0.125", "size=32", "resize=32", "frames=2"),
]
EPOCHS, STEPS = 8, 16  # of 8 videos, 4 a step
PROCESSES = 2


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_move4mnist(tmp_path_factory.mktemp("moves"), train=8, val=4, workers=1)


def start(lists: dict[str, Path], out: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "foveate", "train", "--videos", lists["train"], "--val", lists["val"]]
    command += ["--out", out, *TINY, "--epochs", EPOCHS, "--log-every", 1, "--save-every", 2, *words]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where tests run in the background
    try:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*map(str, command)], text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes
        )
    finally:
        signal.signal(signal.SIGINT, before)


def finish(program: subprocess.Popen[str], code: int = 0) -> str:
    """What it said on standard error."""
    _, said = program.communicate(timeout=200)
    assert program.returncode == code, said
    return said


def ranks(program: subprocess.Popen[str]) -> dict[int, int]:
    """The processes of a launch by rank."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            words = status.with_name("environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        number = [int(word[5:]) for word in words if word.startswith(b"RANK=")]
        if parent == program.pid and number:
            found[number[0]] = int(status.parent.name)
    return found


def steps(out: Path) -> int:
    """How many stand in the records."""
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return sum('"kind": "step"' in line for line in lines)


def wait_for(step: int, out: Path, launches: int, program: subprocess.Popen[str]) -> dict[int, int]:
    """The processes of launch number `launches` when it has made so many steps."""
    begun = out / "starts.jsonl"
    while not begun.exists() or len(begun.read_text().splitlines()) < launches or steps(out) < step:
        assert program.poll() is None, program.communicate()[1]
        time.sleep(0.005)
    return ranks(program)


def digest(out: Path) -> str:
    return hashlib.sha256((out / "best.safetensors").read_bytes()).hexdigest()


def records(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "step"]


@pytest.fixture(scope="module")
def whole(lists: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without faults."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    finish(start(lists, out, "--nproc", PROCESSES))
    return out


def killed_at(lists: dict[str, Path], out: Path, at: list[tuple[int, int]]) -> list[float]:
    """Run to the end, killing a rank at each (step, rank); seconds from each kill to the next start."""
    program, gaps = start(lists, out, "--nproc", PROCESSES), []
    for launches, (step, rank) in enumerate(at, start=1):
        os.kill(wait_for(step, out, launches, program)[rank], signal.SIGKILL)
        clock = time.monotonic()
        wait_for(0, out, launches + 1, program)
        gaps.append(time.monotonic() - clock)
    said = finish(program)
    lost = [line for line in said.splitlines() if "all start again from the last checkpoint" in line]
    assert len(lost) == len(at), said
    return gaps


def draw(chance: random.Random, kills: int) -> list[tuple[int, int]]:
    """Where to kill: ascending steps, each of its own launch, and ranks."""
    return [(step, chance.randrange(PROCESSES)) for step in sorted(chance.sample(range(1, STEPS - 2), kills))]


@pytest.mark.stress
def test_a_killed_rank_changes_no_bit(lists: dict[str, Path], whole: Path, tmp_path: Path) -> None:
    gaps = killed_at(lists, tmp_path / "run", [(3, 0), (9, 1)])
    assert digest(tmp_path / "run") == digest(whole)
    assert records(tmp_path / "run") == records(whole)
    assert max(gaps) < 60


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_twenty_killed_ranks_change_no_bit(lists: dict[str, Path], whole: Path, tmp_path: Path) -> None:
    chance, gaps, same, runs = random.Random(0), [], 0, 10
    for number in range(runs):
        out = tmp_path / str(number)
        gaps += killed_at(lists, out, draw(chance, 2))
        same += digest(out) == digest(whole)
    about = f"{len(gaps)} times SIGKILL to a random one of {PROCESSES} processes at a random step, 2 a run"
    columns = {"runs": "runs", "kills": "kills", "same": "runs with the SHA-256 of the run without kills",
               "longest": "longest time from a kill to the next start, s"}  # fmt: skip
    row = {"runs": runs, "kills": len(gaps), "same": same, "longest": max(gaps)}
    write("killed_ranks", Table(about, columns, [row]), command="pytest -m stress tests/test_launch.py")
    assert (len(gaps), same) == (20, runs)


def assert_saved(said: str, signum: int) -> None:
    """Every process says that it was stopped, and the one that saves, that it has."""
    assert said.count(f"stopped by {signal.Signals(signum).name} after step") == PROCESSES, said
    assert said.count("everything is saved (continue with --resume)") == 1, said


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.stress)])
def test_a_stop_reaches_all_processes(lists: dict[str, Path], tmp_path: Path, signum: int) -> None:
    out = tmp_path / "run"
    program = start(lists, out, "--epochs", 10000, "--nproc", PROCESSES)
    wait_for(1, out, 1, program)
    program.send_signal(signum)
    said = finish(program, 128 + signum)
    assert_saved(said, signum)
    assert "Traceback" not in said
    assert "start again" not in said


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.stress)])
def test_a_stop_reaches_one_that_judges_while_the_other_goes_on(
    lists: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    out, judging = tmp_path / "run", tmp_path / "judging"
    (tmp_path / "sitecustomize.py").write_text(LATE.format(rank=rank, judging=judging))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    program = start(lists, out, "--epochs", 10000, "--nproc", PROCESSES)
    while not judging.exists():
        assert program.poll() is None, program.communicate()[1]
        time.sleep(0.01)
    time.sleep(1)  # for the other to go on
    program.send_signal(signal.SIGTERM)
    assert_saved(finish(program, 128 + signal.SIGTERM), signal.SIGTERM)


LATE = """
import os
import pathlib
import time

if os.environ.get("RANK") == "{rank}":
    from foveate.train import evaluate

    judge = evaluate.measures

    def late(*scored):
        found = judge(*scored)
        pathlib.Path("{judging}").touch()
        time.sleep(10)
        return found

    evaluate.measures = late
"""
"""Makes one process take its time at the end of an evaluation, when the others need it no longer."""


def test_a_refusal_is_not_launched_again(lists: dict[str, Path], whole: Path) -> None:
    before = digest(whole)
    said = finish(start(lists, whole, "--nproc", PROCESSES), 2)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line == f"error: {whole}: holds a run already (add --resume, or choose another folder)"
    assert "start again" not in said
    assert digest(whole) == before


def test_another_number_of_processes_is_refused(lists: dict[str, Path], whole: Path) -> None:
    said = finish(start(lists, whole, "--resume"), 2)
    assert "the run was made with processes 2, now it is 1 (resume with the same settings" in said


def test_a_batch_that_does_not_divide_is_refused_at_once(lists: dict[str, Path], tmp_path: Path) -> None:
    said = finish(start(lists, tmp_path / "run", "--nproc", 3), 2)
    assert "batch: 4 clips do not divide by 3 processes" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.stress
def test_launches_without_progress_come_to_an_end(lists: dict[str, Path], tmp_path: Path) -> None:
    """Each launch is killed before it has saved anything."""
    out = tmp_path / "run"
    program = start(lists, out, "--nproc", PROCESSES)
    seen: set[int] = set()
    while program.poll() is None:
        for pid in {*ranks(program).values()} - seen:
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    said = finish(program, 1)
    assert said.count("all start again") == 2
    assert f"error: {out}: 3 launches in a row ended without a newer checkpoint; the last: " in said


def test_two_processes_learn_what_one_does(lists: dict[str, Path], tmp_path: Path) -> None:
    """Batch norms have the statistics of a process, and dropout draws for each, so both stand still."""
    same = [*TINY[TINY.index("--settings") :], "dropout=0", "--freeze", "*.bn*", "*.downsample.1*"]
    for words, out in ((["--nproc", PROCESSES], "two"), ([], "one")):
        finish(start(lists, tmp_path / out, *same, *words))
    one, two = (load_file(tmp_path / out / "best.safetensors") for out in ("one", "two"))
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
