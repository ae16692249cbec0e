"""Decode every video of a list once, before it costs a night of training: what is fine, what is not and why.

A bad file is a row with its cause, never the end of the run and never a silent gap. The rows of a list make a
manifest (manifest.py): a list of Foveate's own format that one trains from, whose lines also hold what the
check found.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import av

from foveate.data.lists import VideoEntry, VideoList
from foveate.data.pool import Lost, map_as_they_come
from foveate.data.stretch import frame_range
from foveate.errors import DataError, UsageError
from foveate.video import Scan, Video, open_video
from foveate.video.numbered import FLOW_FOLDERS

if TYPE_CHECKING:
    from foveate.data.manifest import KeptRows

VERSION = 1  # raised where the same file would get another row
ROW_KEYS = ("path", "status", "cause", "frames", "width", "height", "fps", "duration_s")


class FileVersion(NamedTuple):
    """What shows cheaply that a file was replaced; of a folder, the sum of sizes and the latest time."""

    bytes: int
    mtime: float  # seconds since 1970


class Job(NamedTuple):
    """A video to check, and every part of it that its list has."""

    path: str
    template: str | None = None
    entries: tuple[VideoEntry, ...] = ()
    quick: bool = False

    def asked(self) -> str:
        """What the answer depends on besides the file, as 16 hexadecimal digits."""
        parts = [(e.frames, e.start, e.end, e.start_s, e.end_s) for e in self.entries]
        facts = VERSION, av.ffmpeg_version_info, self.template, parts, self.quick
        return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found out about one video; zeros where nothing could be decoded."""

    path: str
    status: Literal["ok", "partial", "refused"]
    cause: str  # empty when the status is "ok"
    frames: int = 0
    width: int = 0  # pixels, as shown
    height: int = 0
    fps: float = 0.0
    duration_s: float = 0.0
    bytes: int | None = None  # None for the last three: there is no file to look at
    mtime: float | None = None
    fingerprint: str | None = (
        None  # SHA-256 of the content, hexadecimal; None too where only packets were read
    )
    asked: str = ""  # of the job; a row for another question is none for this one
    lost: tuple[VideoEntry, ...] = ()  # parts of the list that the video has not

    def to_dict(self) -> dict[str, Any]:
        """Plain data under ROW_KEYS; a file name that is not UTF-8 is shown with escapes."""
        row = {key: getattr(self, key) for key in ROW_KEYS}
        return row | {"path": self.path.encode("utf-8", "backslashreplace").decode()}


def check_videos(
    videos: VideoList | Iterable[str | Path],
    workers: int = 1,
    timeout_s: float = 3600.0,
    quick: bool = False,
    kept: KeptRows | None = None,
) -> Iterator[Checked]:
    """What decoding shows about each video of a list or of paths, in order, every source decoded once.

    A video is refused, too, where training would refuse it: its list counts or asks for more frames than it
    has (`frame_range`). quick: packets are read and one picture is decoded, and damage inside is not seen.
    kept: rows of earlier checks, which stand for files that have not changed; the others are added.

    With more than one worker, processes decode, and a file that crashes the decoder twice, or keeps it for
    more than `timeout_s` seconds, is refused like any other bad file. With one, this process decodes, and
    would crash or wait itself. Fewer raise UsageError.
    """
    if workers < 1:
        raise UsageError("workers", f"is {workers}", "at least 1 process has to decode")
    if isinstance(videos, VideoList):
        entries = list(videos.entries)
    else:
        entries = [VideoEntry(str(path)) for path in videos]
    parts: dict[tuple[str, str | None], dict[VideoEntry, None]] = {}
    for entry in entries:
        parts.setdefault((entry.path, entry.template), {})[entry] = None
    jobs = [Job(*source, tuple(own), quick) for source, own in parts.items()]
    if kept is None:
        return _in_order(jobs, [None] * len(jobs), workers, timeout_s, lambda row: None)
    return _added(jobs, [kept.row(job) for job in jobs], workers, timeout_s, kept)


def check_video(job: Job) -> Checked:
    """Decode one video to its end; whatever is wrong with it is in the result."""
    path = Path(job.path)
    before = file_version(path)
    lost: list[VideoEntry] = []
    try:
        with open_video(job.path, job.template, quick=job.quick) as video:
            found = video.scan()
            causes = [cause for entry in job.entries if (cause := _misfit(entry, video))]
            lost = [entry for entry in job.entries if _misfit(replace(entry, frames=None), video)]
        if causes:
            more = f", and {len(causes) - 1} more parts" if len(causes) > 1 else ""
            found = replace(found, status="refused", cause=causes[0] + more)
    except DataError as error:
        found = Scan("refused", error.cause)
    if file_version(path) != before:
        found = Scan("refused", "changed while it was checked")
    content = None if job.quick else fingerprint(path)
    known = _version_fields(before) | {"fingerprint": content, "asked": job.asked(), "lost": tuple(lost)}
    return Checked(job.path, **asdict(found), **known)


def usable(videos: VideoList, rows: Iterable[Checked]) -> VideoList:
    """The list without what cannot be used, with the numbers of frames that were counted."""
    by_path = {row.path: row for row in rows if row.frames}
    kept = [
        entry for entry in videos.entries if entry.path in by_path and entry not in by_path[entry.path].lost
    ]
    return replace(videos, entries=tuple(replace(entry, frames=by_path[entry.path].frames) for entry in kept))


def _misfit(entry: VideoEntry, video: Video) -> str:
    """Why training would refuse an entry of a video that was decoded; empty if it would not."""
    try:
        frame_range(entry, video)
    except DataError as error:
        return error.cause
    return ""


def _added(
    jobs: Sequence[Job], old: Sequence[Checked | None], workers: int, timeout_s: float, kept: KeptRows
) -> Iterator[Checked]:
    with kept.growing() as rows:
        yield from _in_order(jobs, old, workers, timeout_s, rows.add)


def _in_order(
    jobs: Sequence[Job],
    old: Sequence[Checked | None],
    workers: int,
    timeout_s: float,
    add: Callable[[Checked], None],
) -> Iterator[Checked]:
    """A row for each job, from `old` where there is one; `add` is called with new ones as they come."""
    todo = [place for place, row in enumerate(old) if row is None]
    results = map_as_they_come(check_video, [jobs[place] for place in todo], workers, timeout_s)
    new: dict[int, Checked] = {}
    for place, row in enumerate(old):
        while row is None and place not in new:
            number, result = next(results)
            new[todo[number]] = _row(jobs[todo[number]], result)
            add(new[todo[number]])
        yield new.pop(place) if row is None else row


def _row(job: Job, result: Checked | Lost) -> Checked:
    if isinstance(result, Lost):
        cause = f"decoding came to no end: {result.cause}"
        return Checked(job.path, "refused", cause, **_version_fields(file_version(Path(job.path))))
    return result


def _version_fields(found: FileVersion | None) -> dict[str, Any]:
    return found._asdict() if found else {}


def cause_table(rows: Iterable[Checked]) -> list[tuple[str, str, int]]:
    """Status, cause and number of videos, the most frequent first; numbers in a cause stand as N."""
    counts = Counter((row.status, re.sub(r"\b\d+(\.\d+)?", "N", row.cause)) for row in rows)
    return [(status, cause, count) for (status, cause), count in counts.most_common()]


def file_version(path: Path) -> FileVersion | None:
    """Size and time of a file, or of the files in a folder of images; None where there is nothing to read."""
    try:
        state = path.stat()
        if stat.S_ISREG(state.st_mode):
            return FileVersion(state.st_size, state.st_mtime)
        states = [file.stat() for file in _files(path)]
    except (OSError, ValueError):
        return None
    if not states:
        return None
    return FileVersion(sum(state.st_size for state in states), max(state.st_mtime for state in states))


def fingerprint(path: Path) -> str | None:
    """SHA-256 of a file, or of the names and contents in a folder; None where there is nothing to read."""
    digest = hashlib.sha256()
    try:
        files = _files(path)
        for file in files:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256")
            if file == path:
                return content.hexdigest()
            digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0" + content.digest())
    except OSError:
        return None
    return digest.hexdigest() if files else None


def _files(path: Path) -> list[Path]:
    """The regular files of a video: opening anything else could wait for ever."""
    if path.is_dir():
        below = chain.from_iterable((path / name).glob("*") for name in chain.from_iterable(FLOW_FOLDERS))
        return sorted(file for file in (*path.iterdir(), *below) if file.is_file())
    return [path] if path.is_file() else []
