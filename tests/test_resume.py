"""A training that was killed or ran out of disk goes on to the bits of one that was not, wherever it was."""

from __future__ import annotations

import json
import linecache
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from benchmarks.record import Table, write

import train_child as toy
from foveate import io
from foveate.errors import OutputError
from foveate.train import checkpoint, run
from foveate.train.checkpoint import load_checkpoint
from foveate.train.run import Run

CHANGES = (".open(", ".write(", ".writelines(", ".fsync(", ".replace(", ".unlink(", ".truncate(")
WRITERS = {checkpoint.__file__, io.__file__, run.__file__}
COMMAND = "pytest -m stress tests/test_resume.py"
FORKS = multiprocessing.get_context("forkserver")  # each child has PyTorch at once, and no threads of ours
FORKS.set_forkserver_preload(["foveate.train.loop", "foveate.train.evaluate", "torch._dynamo"])
pytestmark = pytest.mark.usefixtures("one_thread")


def to_the_end(folder: Path) -> None:
    """Train, or go on where there is something to go on from; leaves the digest of all weights."""
    torch.set_num_threads(1)
    resume = (folder / "config.yaml").exists()
    digest = toy.train(folder, resume, at=0, signum=0, plain=False)
    (folder / "digest").write_text(digest)


def until_write(folder: Path, last: int) -> None:
    """`to_the_end`, killed before the write, sync or rename number `last`; else leaves their number."""
    count = 0

    def see(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno) if event == "line" else ""
        count += any(call in source for call in CHANGES)
        if source and count == last > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return see

    def enter(frame: FrameType, event: str, arg: object) -> Any:
        return see(frame, "call", arg) if frame.f_code.co_filename in WRITERS else None

    sys.settrace(enter)
    to_the_end(folder)
    sys.settrace(None)
    (folder / "writes").write_text(str(count))


def child(work: Callable[..., None], *arguments: object, seconds: float | None = None) -> int | None:
    """The exit code of a process that does it, and is killed after so many seconds if they are given."""
    process = FORKS.Process(target=work, args=arguments)
    process.start()
    process.join(seconds)
    if seconds is not None:
        process.kill()
        process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbs, with the number of its writes."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert child(until_write, folder, 0) == 0
    return folder


def same(folder: Path, whole: Path) -> bool:
    """Resume a run, and compare weights, records and bad files."""
    assert child(to_the_end, folder) == 0
    assert not list(folder.glob(".*.part"))
    equal = [
        (folder / name).read_bytes() == (whole / name).read_bytes() for name in ("digest", "bad_files.jsonl")
    ]
    return all(equal) and toy.untimed(folder) == toy.untimed(whole)


def killed_at_times(whole: Path, folder: Path, points: int) -> tuple[int, int]:
    """Kills that fell into the training, and how many of these runs ended as the whole one."""
    chance, good, kills = random.Random(1), 0, 0
    clock = time.monotonic()
    assert child(to_the_end, folder / "timed") == 0
    longest = time.monotonic() - clock
    while kills < points:
        out = folder / str(kills)
        if child(to_the_end, out, seconds=chance.uniform(0, longest)) == -signal.SIGKILL and out.exists():
            kills += 1
            good += same(out, whole)
        else:
            shutil.rmtree(out, ignore_errors=True)
    return kills, good


def killed_at_writes(whole: Path, folder: Path, writes: list[int]) -> int:
    """How many of the runs that are killed at these writes end as the whole one."""
    good = 0
    for number in writes:
        out = folder / f"write{number}"
        assert child(until_write, out, number) == -signal.SIGKILL
        good += same(out, whole)
        shutil.rmtree(out)
    return good


def test_killed_at_any_time_it_ends_with_the_same_bits(whole: Path, tmp_path: Path) -> None:
    assert killed_at_times(whole, tmp_path, 2) == (2, 2)


def test_killed_at_any_write_it_ends_with_the_same_bits(whole: Path, tmp_path: Path) -> None:
    total = int((whole / "writes").read_text())
    assert total > 100
    assert killed_at_writes(whole, tmp_path, random.Random(2).sample(range(1, total + 1), 2)) == 2


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_killed_at_every_write_it_ends_with_the_same_bits(whole: Path, tmp_path: Path) -> None:
    total = int((whole / "writes").read_text())
    times, of_times = killed_at_times(whole, tmp_path, 20)
    of_writes = killed_at_writes(whole, tmp_path, list(range(1, total + 1)))
    about = (
        "A training of 18 steps that is killed by SIGKILL and resumed: weights, records and list of bad files"
    )
    columns = {"killed": "killed", "kills": "kills", "same": "runs that ended as the one without kills"}
    rows = [
        {"killed": "at random times", "kills": times, "same": of_times},
        {"killed": "before every write, sync and rename of its files", "kills": total, "same": of_writes},
    ]
    write("killed_runs", Table(about, columns, rows), command=COMMAND)
    assert (times, of_times, of_writes) == (20, 20, total)


def test_a_killed_run_is_resumed_while_its_workers_end(tmp_path: Path) -> None:
    process = os.fork()
    if not process:
        with Run(tmp_path, {}):
            if not os.fork():  # as a worker that is still decoding
                time.sleep(3)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    time.sleep(0.5)
    with Run(tmp_path, {}, resume=True):
        pass


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(small_disk: Path, whole: Path) -> None:
    if not small_disk.is_mount():
        pytest.skip("a disk of its own cannot be mounted here")
    folder = small_disk / "run"
    assert child(until_write, folder, int((whole / "writes").read_text()) // 2) == -signal.SIGKILL
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"0" * 512)
    with pytest.raises(OutputError, match="no space left on device") as caught:
        toy.train(folder, resume=True, at=0, signum=0, plain=False)
    assert caught.value.exit_code == 5
    assert load_checkpoint(folder / "last.ckpt")["state"]["step"] > 0
    filler.unlink()
    assert same(folder, whole)


def test_a_folder_that_is_read_only_is_refused_before_the_first_step(small_disk: Path) -> None:
    if not small_disk.is_mount():
        pytest.skip("a disk of its own cannot be mounted here")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for folder in (small_disk, small_disk / "run"):
        with pytest.raises(OutputError, match="read-only file system"):
            toy.train(folder, resume=False, at=1, signum=signal.SIGKILL, plain=False)


def test_a_clock_that_jumps_changes_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(3)
    monkeypatch.setattr(time, "time", lambda: chance.uniform(0, 4e9))
    digest = toy.train(tmp_path, resume=False, at=0, signum=0, plain=False)
    assert digest == (whole / "digest").read_text()
    assert toy.untimed(tmp_path) == toy.untimed(whole)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert all(value >= 0 for name, value in json.loads(line).items() if "seconds" in name)
