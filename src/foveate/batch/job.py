"""The folder of a job: what its rows depend on, which parts there are, which are missing.

    job.json                  model, weights, engine, settings, list: another job is refused
    part-000000.parquet ..    rows of as many videos of the list as `part_rows` says, in its order
    failures.jsonl            every video that is partial or refused, with its cause
    summary.json              counts

A part is written beside its place and renamed, so one that is there is whole. Any number of processes may
work in one folder, each on its own parts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from foveate.batch.rows import SUFFIXES, read_rows, write_failures, write_rows
from foveate.choices import RowFormat
from foveate.data.lists import VideoEntry
from foveate.errors import OutputError, UsageError
from foveate.io import atomic_write

ANOTHER = "choose another --out, or give what the job began with"
FACTS = "job.json"
NOTED = ("videos", "list")  # facts that are compared in another way than by being equal


@dataclass(frozen=True)
class Share:
    """The parts of one of `of` processes: every `of`-th, from `number` on."""

    number: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            cause = f"is {self.number}/{self.of}"
            raise UsageError("--shard", cause, f"count from 0/{self.of} to {self.of - 1}/{self.of}")


class Job:
    """A folder of rows for the entries of a list. format: of its parts. part_rows: videos in a part."""

    def __init__(
        self, folder: Path, entries: Sequence[VideoEntry], format: RowFormat = "parquet", part_rows: int = 64
    ) -> None:
        self.folder = folder
        self.entries = entries
        self.part_rows = part_rows
        self.suffix = SUFFIXES[format]
        self.parts = -(-len(entries) // part_rows)

    def recorded(self) -> dict[str, Any]:
        """The facts of the job that the folder holds; empty for none. OutputError for other contents."""
        path = self.folder / FACTS
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise OutputError(path, f"cannot be read: {error}", "choose another --out") from error
        if not isinstance(found, dict):
            raise OutputError(path, "is not the record of a job", "choose another --out")
        return found

    @contextmanager
    def settling(self) -> Iterator[None]:
        """While one process reads or writes the facts, the others wait.

        OutputError if the folder cannot be made or written.
        """
        lock = FileLock(self.folder / ".job.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            cause = f"cannot be written: {(error.strerror or str(error)).lower()}"
            raise OutputError(self.folder, cause, "choose another --out") from error
        try:
            yield
        finally:
            lock.release()

    def settle(self, facts: Mapping[str, Any]) -> None:
        """Record the facts of a new job, or compare them with those that are there.

        UsageError, which says what differs, for another job. A list that has only grown is the same job: its
        last part is made again.
        """
        known = self.recorded()
        facts = {**facts, "part_rows": self.part_rows, "format": self.suffix[1:]}
        facts |= {"videos": len(self.entries), "list": fingerprint(self.entries)}
        differs = [name for name in facts if name not in NOTED and known.get(name) != facts[name]]
        if known and differs:
            changes = "; ".join(f"{name} {known.get(name)!r}, not {facts[name]!r}" for name in differs)
            raise UsageError(self.folder, f"holds the answers of another job: {changes}", ANOTHER)
        if known and known["list"] != facts["list"]:
            self._grow(known)
        if known.get("list") != facts["list"]:
            with atomic_write(self.folder / FACTS, durable=True) as part:
                part.write_text(json.dumps(facts, indent=1) + "\n")

    def _grow(self, known: Mapping[str, Any]) -> None:
        before = int(known["videos"])
        if before > len(self.entries) or fingerprint(self.entries[:before]) != known["list"]:
            cause = f"holds the answers to another list, of {before} videos, not {len(self.entries)}"
            raise UsageError(self.folder, cause, "choose another --out; videos may only be added at its end")
        if before % self.part_rows:
            self.path(before // self.part_rows).unlink(missing_ok=True)

    @contextmanager
    def working(self, share: Share) -> Iterator[None]:
        """Hold the share of one process. UsageError while another one works on it."""
        lock = FileLock(self.folder / f".share-{share.number}-of-{share.of}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            hint = "wait for it, or stop it"
            raise UsageError(self.folder, "another process is working on it", hint) from error
        try:
            yield
        finally:
            lock.release()

    def path(self, part: int) -> Path:
        return self.folder / f"part-{part:06d}{self.suffix}"

    def places(self, part: int) -> range:
        """The places in the list of the videos of a part."""
        first = part * self.part_rows
        return range(first, min(first + self.part_rows, len(self.entries)))

    def missing(self, share: Share = Share(), retry: bool = False) -> list[int]:
        """The parts of a share that are not there. retry: and those with a video that was refused."""
        there = {path.name for path in self.folder.glob(f"part-*{self.suffix}")}
        own = range(share.number, self.parts, share.of)
        return [
            part for part in own if self.path(part).name not in there or (retry and self._has_refused(part))
        ]

    def _has_refused(self, part: int) -> bool:
        return any(row["status"] == "refused" for row in read_rows(self.path(part), ("status",)))

    def write(self, part: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write a part. OutputError where it cannot be written."""
        write_rows(rows, self.path(part))

    def summary(self) -> dict[str, int]:
        """Numbers of videos by status, of all that are listed and of those without a row yet.

        Writes failures.jsonl and summary.json, one process after the other. OutputError for a part that is
        damaged.
        """
        with self.settling():
            return self._summary()

    def _summary(self) -> dict[str, int]:
        counts, failures = Counter[str](), []
        for part in range(self.parts):
            if not self.path(part).exists():
                counts["missing"] += len(self.places(part))
                continue
            rows = read_rows(self.path(part), ("index", "video", "status", "cause"))
            if [row["index"] for row in rows] != [*self.places(part)]:
                cause = f"holds {len(rows)} rows, not those of {len(self.places(part))} videos"
                raise OutputError(self.path(part), cause, "remove it, and it is made again")
            counts.update(row["status"] for row in rows)
            failures += [row for row in rows if row["status"] != "ok"]
        names = ("ok", "partial", "refused", "missing")
        result = {"videos": len(self.entries)} | {name: counts[name] for name in names}
        write_failures(failures, self.folder / "failures.jsonl")
        with atomic_write(self.folder / "summary.json") as part_file:
            part_file.write_text(json.dumps(result, indent=1) + "\n")
        return result


def fingerprint(entries: Sequence[VideoEntry]) -> str:
    """SHA-256 of the videos of a list and the parts of them that it names, in its order, hexadecimal."""
    digest = hashlib.sha256()
    for one in entries:
        what = one.path, one.start, one.end, one.start_s, one.end_s, one.template
        digest.update(repr(what).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
