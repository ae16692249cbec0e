"""The folder of one training run: who may write it, what lies in it.

    config.yaml        the settings, resolved
    metrics.jsonl      one object a logged step, one an epoch, and one of the features that were kept before
    bad_files.jsonl    every file that could not be read, once, with its cause
    changes.jsonl      one object an extension: after which epoch, what was changed, from and to what
    starts.jsonl       one object a start: the command, when, versions and machine
    evaluation.npz     what the kept model answered to the validation videos (train/evaluation.py)
    last.ckpt          everything needed to go on
    best.safetensors   the model to use

A run that is resumed cuts `metrics.jsonl` back to the length that it had at the checkpoint, so that no step
stands in it twice.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import yaml
from filelock import FileLock, Timeout

from foveate.errors import OutputError, UsageError
from foveate.train.checkpoint import write_atomic
from foveate.train.extend import Changes

Record = Mapping[str, Any]  # one line of metrics.jsonl


class BadFile(Protocol):
    """A file that could not be read."""

    @property
    def path(self) -> str: ...

    @property
    def cause(self) -> str: ...

    @property
    def labels(self) -> tuple[int, ...]: ...


class Run:
    """A run folder, locked while the context is open.

    settings: plain data for config.yaml. `resume` continues what is there; without it a folder that holds a
    checkpoint is refused. Only the process with `main` locks and writes. Raises UsageError if another
    process holds the folder or there is nothing to resume, OutputError if it cannot be written.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], resume: bool = False, main: bool = True
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.resume = resume
        self.main = main
        self.config = folder / "config.yaml"
        self.metrics = folder / "metrics.jsonl"
        self.bad_files = folder / "bad_files.jsonl"
        self.changes = folder / "changes.jsonl"
        self.starts = folder / "starts.jsonl"
        self.evaluation = folder / "evaluation.npz"
        self.last = folder / "last.ckpt"
        self.best = folder / "best.safetensors"
        self._lock = FileLock(folder / ".lock", blocking=False, thread_local=False)

    @property
    def resumes(self) -> bool:
        """Whether there is a checkpoint to go on from; a run that died before its first one starts anew."""
        return self.resume and self.last.exists()

    def __enter__(self) -> Run:
        if self.resume and not self.config.exists():
            raise UsageError(self.folder, "holds no run to resume", "is the path right?")
        if self.main:
            self._open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()

    def _open(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise UsageError(
                self.folder, "another run is writing this folder", "wait, or choose another"
            ) from error
        except OSError as error:
            raise OutputError(self.folder, (error.strerror or str(error)).lower()) from error
        if not self.resumes:
            self._start()

    def _start(self) -> None:
        if self.last.exists():
            self.__exit__()
            raise UsageError(self.folder, "holds a run already", "add --resume, or choose another folder")
        write_atomic(self.config, yaml.safe_dump(dict(self.settings), sort_keys=False).encode())
        for log in (self.metrics, self.bad_files, self.changes, self.starts, self.evaluation):
            log.unlink(missing_ok=True)

    def record(self, record: Record) -> None:
        """Add a line to metrics.jsonl; a number that JSON does not know (NaN, infinity) becomes null."""
        _append(self.metrics, record)

    def record_start(self, facts: Record) -> None:
        """Add a line to starts.jsonl: the command of this process, the time, and the `facts` given."""
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        _append(self.starts, {"command": command_line(), "started": started, **facts})

    def record_changes(self, place: Record, changes: Changes) -> None:
        """Add a line to changes.jsonl, unless it ends with it, from a process that died before it saved."""
        old = self.changes.read_text(encoding="utf-8").splitlines() if self.changes.exists() else []
        record = {**place, "changes": {name: list(pair) for name, pair in changes.items()}}
        if not old or json.loads(old[-1]) != json.loads(json.dumps(record)):
            _append(self.changes, record)

    def report_bad(self, files: Iterable[BadFile]) -> None:
        """Add those files to bad_files.jsonl that are not in it."""
        old = self.bad_files.read_text(encoding="utf-8") if self.bad_files.exists() else ""
        known = {json.loads(line)["path"] for line in old.splitlines()}
        fresh = {file.path: file.cause for file in files if file.path not in known}
        if fresh:
            new = [json.dumps({"path": path, "cause": cause}) + "\n" for path, cause in fresh.items()]
            write_atomic(self.bad_files, (old + "".join(new)).encode())

    def written(self) -> int:
        """Length of metrics.jsonl in bytes, to be kept in a checkpoint."""
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def rewind(self, length: int) -> None:
        """Drop what was added to metrics.jsonl after it had that length."""
        if self.written() > length:
            with self.metrics.open("rb+") as file:
                file.truncate(length)


def command_line() -> str:
    """The command of this process, as it could be typed again in its folder."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def _append(log: Path, record: Record) -> None:
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(record)) + "\n")
    except OSError as error:
        raise OutputError(log, (error.strerror or str(error)).lower(), "make room, then resume") from error


def _finite(record: Record) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
