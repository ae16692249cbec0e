"""A checkpoint is whole or not there, whatever dies; and it is refused when it is not what it should be."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from foveate import io
from foveate.errors import ModelFileError, OutputError, UsageError
from foveate.train import checkpoint
from foveate.train.checkpoint import load_checkpoint, save_checkpoint, write_atomic
from foveate.train.extend import check_identity

CONTENT = {"weights": torch.arange(1000.0), "step": 7, "name": "new", "nothing": None}
WRITERS = {checkpoint.__file__, io.__file__}


def test_content_returns(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, CONTENT)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.pop("weights"), CONTENT["weights"])
    assert loaded == {"step": 7, "name": "new", "nothing": None}
    assert os.listdir(tmp_path) == ["last.ckpt"]


def lines_of_a_save(path: Path) -> int:
    """How many lines the writer executes."""
    count = 0

    def see(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return see

    with traced(see):
        save_checkpoint(path, CONTENT)
    return count


@contextmanager
def traced(see: Callable[[FrameType, str, object], Any]) -> Iterator[None]:
    """Call `see` for the lines of the modules that write a checkpoint."""

    def enter(frame: FrameType, event: str, arg: object) -> Any:
        return see(frame, "call", arg) if frame.f_code.co_filename in WRITERS else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


def save_and_die(path: Path, line: int) -> int:
    """The wait status of a child that is killed when it is about to execute that line of the writer."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    count = 0

    def see(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        if count == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return see

    with traced(see):
        save_checkpoint(path, CONTENT)
    os._exit(0)


def test_a_kill_at_any_line_of_the_writer_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    total = lines_of_a_save(path)
    assert total > 15
    found = []
    for line in range(1, total + 1):
        save_checkpoint(path, {"name": "old"})
        assert os.WTERMSIG(save_and_die(path, line)) == signal.SIGKILL
        found.append(load_checkpoint(path)["name"])
    assert found == sorted(found, reverse=True), "once new, always new"
    assert set(found) == {"old", "new"}
    save_checkpoint(path, CONTENT)
    assert os.listdir(tmp_path) == ["last.ckpt"], "what a killed writer left behind is gone"


def test_a_full_disk_keeps_the_old_checkpoint(small_disk: Path) -> None:
    path = small_disk / "last.ckpt"
    save_checkpoint(path, CONTENT)
    with pytest.raises(
        OutputError, match=r"last\.ckpt: cannot be written: (no space left|file too large).*\(free some space"
    ) as caught:
        save_checkpoint(path, {"weights": torch.zeros(1_000_000)})
    assert caught.value.exit_code == 5
    assert load_checkpoint(path)["step"] == 7
    assert os.listdir(small_disk) == ["last.ckpt"]


def test_a_file_size_limit_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutputError, match="too large"):
            write_atomic(path, b"n" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such file"):
        write_atomic(tmp_path / "nowhere" / "file", b"")


@pytest.mark.parametrize("place", [0, 30, 60, 700, -1])
def test_every_flipped_bit_is_seen(tmp_path: Path, place: int) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, CONTENT)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"last\.ckpt: (not a checkpoint|damaged)"):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 5, 40, 1000])
def test_a_cut_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, CONTENT)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelFileError):
        load_checkpoint(path)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelFileError):
            load_checkpoint(path)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.sentinel),))


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    path, sentinel = tmp_path / "last.ckpt", tmp_path / "sentinel"
    save_checkpoint(path, {"state": Bomb(sentinel)})
    with pytest.raises(ModelFileError, match="not loaded"):
        load_checkpoint(path)
    assert not sentinel.exists()


def test_another_setting_is_named() -> None:
    saved = {"rate": 0.01, "batch": 4, "processes": 2}
    check_identity(Path("last.ckpt"), saved, dict(saved))
    check_identity(Path("last.ckpt"), saved, saved | {"newer": 0})
    with pytest.raises(
        UsageError, match=r"last\.ckpt: the run was made with processes 2, now it is 1 \(resume"
    ):
        check_identity(Path("last.ckpt"), saved, saved | {"processes": 1})
    with pytest.raises(UsageError, match="with batch 4, now it is None"):
        check_identity(Path("last.ckpt"), saved, {"rate": 0.01, "processes": 2})
