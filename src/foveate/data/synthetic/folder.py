"""A folder of made videos that can be stopped, continued and grown.

Video i of a split is a function of (seed, split, i) and of the configuration, and its class is i modulo the
number of classes. So a file that exists is right, and a rerun only makes what is missing; `made.json` keeps a
folder from mixing two seeds or configurations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.data.pool import Lost, map_in_processes
from foveate.errors import DataError, OutputError, UsageError
from foveate.io import atomic_write

SPLITS = ("train", "val", "test")
VERSION = 1  # of the generators: raised when the same seed would give another video

Progress = Callable[[int, int], None]  # (videos that exist, videos asked for)


@dataclass(frozen=True)
class FolderSettings:
    """What decides the content of a folder."""

    kind: str
    seed: int
    classes: tuple[str, ...]
    frames: int  # in every video
    config: Any  # a dataclass of plain values


@dataclass(frozen=True)
class Made:
    """One finished video: the bytes of its file, and what its JSON file says."""

    video: bytes
    facts: Mapping[str, object]


Maker = Callable[[int, int], Made]  # (number of the split, index) -> video; it must survive pickling


@dataclass(frozen=True)
class _Job:
    split: str
    index: int
    video: Path
    make: Maker

    def run(self) -> None:
        made = self.make(SPLITS.index(self.split), self.index)
        text = json.dumps(made.facts) + "\n"
        # The video is renamed last: when it is there, everything is.
        write_whole(self.video.with_suffix(".json"), text.encode())
        write_whole(self.video, made.video)

    def finished(self) -> bool:
        return self.video.exists() and self.video.with_suffix(".json").exists()


def make_folder(
    folder: Path,
    settings: FolderSettings,
    make: Maker,
    counts: Mapping[str, int],
    workers: int,
    progress: Progress | None,
) -> dict[str, Path]:
    """Make the missing videos `folder/SPLIT/CLASS/INDEX.mp4` and the list `folder/SPLIT.jsonl` of each split.

    `counts` is the number of videos by split; a split of none gets no list. Raises UsageError if the folder
    holds anything else, OutputError if it cannot be written.
    """
    if wrong := [name for name, count in counts.items() if count < 0]:
        raise UsageError(wrong[0], f"{counts[wrong[0]]} videos asked for", "give 0 or more")
    if settings.seed < 0:
        raise UsageError("seed", f"is {settings.seed}", "give 0 or more")
    _claim(folder, settings)
    jobs = {split: _jobs(folder / split, settings, make, count) for split, count in counts.items() if count}
    total = sum(map(len, jobs.values()))
    missing = [job for split in jobs.values() for job in split if not job.finished()]
    for number, _ in enumerate(_run(missing, workers), start=total - len(missing) + 1):
        if progress:
            progress(number, total)
    return {split: _write_list(folder, split, settings, made) for split, made in jobs.items()}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears only when complete, and its folder. Raises OutputError."""
    with atomic_write(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)


def _jobs(folder: Path, settings: FolderSettings, make: Maker, count: int) -> list[_Job]:
    classes = settings.classes
    return [
        _Job(folder.name, index, folder / classes[index % len(classes)] / f"{index:05d}.mp4", make)
        for index in range(count)
    ]


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[None]:
    for job, result in zip(jobs, map_in_processes(_Job.run, jobs, workers), strict=True):
        if isinstance(result, Lost):
            raise OutputError(job.video, f"its process ended: {result.cause}", "run again to continue")
        yield


def _claim(folder: Path, settings: FolderSettings) -> None:
    """Write `made.json` into a new folder; check that an old one was made by the same settings."""
    path = folder / "made.json"
    wanted = {"version": VERSION} | json.loads(json.dumps(asdict(settings)))
    if not path.exists():
        if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
            raise UsageError(folder, "holds other files and no made.json", "name a new or empty folder")
        write_whole(path, (json.dumps(wanted, indent=2) + "\n").encode())
        return
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot read: {error}", "name a new folder") from error
    if found != wanted:
        cause = f"was made with another {_differences(found, wanted)[0]}"
        raise UsageError(folder, cause, "name a new folder, or repeat the settings in its made.json")


def _differences(found: object, wanted: dict[str, Any]) -> list[str]:
    """Names of what differs, the weightiest first."""
    old, new = _flat(found), _flat(wanted)
    return [name for name in new if old.get(name) != new[name]] or ["setting"]


def _flat(settings: object) -> dict[str, object]:
    fields = dict(settings) if isinstance(settings, dict) else {}
    config = fields.pop("config", None)
    return fields | (config if isinstance(config, dict) else {})


def _write_list(folder: Path, split: str, settings: FolderSettings, jobs: Sequence[_Job]) -> Path:
    lines: list[dict[str, object]] = [{"foveate": 1, "classes": settings.classes}]
    for job in jobs:
        path = job.video.relative_to(folder).as_posix()
        lines.append({"path": path, "labels": [job.index % len(settings.classes)], "frames": settings.frames})
    file = folder / f"{split}.jsonl"
    write_whole(file, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return file
