"""Decode every video of a list once, shrink it, and train from the small copy.

Decoding full-size video is what most training runs wait for. The cache holds one uint8 array (T, H, W, 3) a
video, as a `.npy` file that is read frame by frame without decoding, with a JSON file beside it that says
where it came from. Files appear under their name only when they are complete, so a broken run just goes on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.data.dataset import BadFile, cause_of
from foveate.data.lists import VideoEntry, VideoList, write_jsonl
from foveate.data.pool import Lost, map_in_processes
from foveate.data.stretch import frame_range
from foveate.errors import DataError, OutputError, UsageError
from foveate.io import atomic_write
from foveate.video import Video, open_video
from foveate.video.sample import every
from foveate.video.transform import resize_short

Progress = Callable[[int, int], None]  # videos done, videos in all


def cache_videos(
    video_list: VideoList,
    out_folder: Path | str,
    short_side: int,
    max_frames: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    timeout_s: float = 3600.0,
) -> VideoList:
    """Write the small copies and `list.jsonl` into `out_folder`, and return that list.

    Frames are shrunk to `short_side` pixels, never enlarged. Of a video of more than `max_frames` frames
    every k-th is kept. An entry that is a part of its source becomes a copy of that part. A complete copy
    of an earlier run with the same settings and an unchanged source is kept. Unreadable videos are left
    out, and named with their cause in the notes and in `bad.jsonl`; of a damaged one the frames that are
    there are kept, and the damage is noted. `workers` processes decode; up to one is this process. With more,
    a video that kills its process or keeps it for more than `timeout_s` seconds is left out like any other.

    Raises OutputError where nothing can be written.
    """
    if short_side < 1 or (max_frames is not None and max_frames < 1):
        raise UsageError(
            "cache", f"short side {short_side}, at most {max_frames} frames", "at least 1 of each"
        )
    settings = CacheSettings(_made_folder(out_folder), short_side, max_frames)
    jobs = {settings.target(entry): entry for entry in video_list.entries}
    entries = list(jobs.values())
    copies = map_in_processes(settings.make_or_refuse, entries, workers, timeout_s, _one_thread)
    results: dict[Path, Copy | BadFile] = {}
    for (target, entry), result in zip(jobs.items(), copies, strict=True):
        if isinstance(result, Lost):
            results[target] = BadFile(entry.path, f"copying came to no end: {result.cause}")
        else:
            results[target] = result
        if progress is not None:
            progress(len(results), len(jobs))
    return _write_lists(video_list, settings, results)


@dataclass(frozen=True)
class Copy:
    """A complete small copy of a video."""

    path: Path
    frames: int
    damage: str  # what was found broken in the source; empty when nothing was


@dataclass(frozen=True)
class CacheSettings:
    """How a video becomes its copy."""

    folder: Path
    short_side: int  # pixels
    max_frames: int | None

    def target(self, entry: VideoEntry) -> Path:
        """Where the copy lies: a readable name, and a digest of everything that tells two entries apart."""
        part = (entry.start, entry.end, entry.start_s, entry.end_s, entry.template)
        identity = repr((str(Path(entry.path).absolute()), part))
        digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(entry.path).stem)[:60]
        return self.folder / f"{stem}-{digest[:16]}.npy"

    def make(self, entry: VideoEntry) -> Copy:
        """The copy, which is written unless it is there. Raises DataError and OutputError."""
        target = self.target(entry)
        origin = self._origin(entry)
        return _complete(target, origin) or self._write(entry, target, origin)

    def make_or_refuse(self, entry: VideoEntry) -> Copy | BadFile:
        """The copy, or why there is none. Raises OutputError."""
        try:
            return self.make(entry)
        except DataError as error:
            return BadFile(entry.path, error.cause)

    def _origin(self, entry: VideoEntry) -> dict[str, Any]:
        """What must be unchanged for a copy to be used again."""
        try:
            state = Path(entry.path).stat()
        except (OSError, ValueError) as error:
            raise DataError(entry.path, cause_of(error)) from error
        return {
            "source": str(Path(entry.path).absolute()),
            "source_bytes": state.st_size,
            "source_mtime_ns": state.st_mtime_ns,
            "short_side": self.short_side,
            "max_frames": self.max_frames,
        }

    def _write(self, entry: VideoEntry, target: Path, origin: dict[str, Any]) -> Copy:
        with open_video(entry.path, entry.template) as video:
            if video.span > 1:
                raise DataError(entry.path, "is optical flow, of which no copy is made", "train from it")
            start, total = frame_range(entry, video)
            wanted = every(total, self.max_frames)
            step = wanted[1] - wanted[0] if len(wanted) > 1 else 1
            pictures = _pick(video, [start + index for index in wanted])
            count = write_npy(target, (_shrink(picture, self.short_side) for picture in pictures))
            copy = Copy(target, count, "; ".join(video.damage))
            fps = video.info.fps / step
        size = target.stat().st_size
        facts = {"fps": fps, "frames": count, "damage": copy.damage, "bytes": size, **origin}
        write_text(target.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
        return copy


def write_npy(path: Path, pictures: Iterator[np.ndarray]) -> int:
    """Stack equal uint8 pictures in a `.npy` file, one at a time in memory; returns their number.

    The file appears under its name when it is complete. Raises OutputError where it cannot be written; a
    DataError of `pictures` passes through.
    """
    first = next(pictures)
    count = 0
    with atomic_write(path) as part, part.open("wb") as file:
        _write_header(file, (0, *first.shape))
        for picture in chain([first], pictures):
            if picture.shape != first.shape:
                raise DataError(path, f"pictures of {first.shape} and {picture.shape}")
            file.write(picture.tobytes())
            count += 1
        file.seek(0)
        _write_header(file, (count, *first.shape))  # NumPy leaves room in it for any count
    return count


def write_text(path: Path, text: str) -> None:
    """Write a small text file that appears only when complete. Raises OutputError."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def _one_thread() -> None:
    """Workers share the cores: threads that wait for each other cost more than they save."""
    torch.set_num_threads(1)


def _write_lists(
    video_list: VideoList, settings: CacheSettings, results: dict[Path, Copy | BadFile]
) -> VideoList:
    """Write what became of every entry; copies get the labels of their entries."""
    entries: list[VideoEntry] = []
    notes = list(video_list.notes)
    refused: list[str] = []
    for entry in video_list.entries:
        result = results[settings.target(entry)]
        cause = result.cause if isinstance(result, BadFile) else result.damage
        if cause:
            notes.append(f"{entry.path}: {cause}")
        if isinstance(result, BadFile):
            refused.append(json.dumps({"path": entry.path, "cause": cause}) + "\n")
        else:
            entries.append(VideoEntry(str(result.path), entry.labels, result.frames))
    cached = replace(video_list, entries=tuple(entries), format="jsonl", notes=tuple(notes), label_base=0)
    write_jsonl(cached, settings.folder / "list.jsonl")
    write_text(settings.folder / "bad.jsonl", "".join(refused))
    return cached


def _complete(target: Path, origin: dict[str, Any]) -> Copy | None:
    """The copy of an earlier run, if it is complete and of the same origin."""
    try:
        facts = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        expected = {**origin, "bytes": target.stat().st_size}
        if any(facts[key] != value for key, value in expected.items()):
            return None
        return Copy(target, int(facts["frames"]), str(facts["damage"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _pick(video: Video, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    """The pictures with the wanted numbers, in order: fewer only of a damaged video, and never none."""
    numbered = enumerate(video.stream())
    for goal in wanted:
        picture = next((rgb for number, (_, rgb) in numbered if number == goal), None)
        if picture is not None:
            yield picture
        elif goal == wanted[0] or not video.damage:
            raise DataError(
                video.info.name, f"ends before frame {goal} of the {wanted[-1] + 1} it should have"
            )
        else:
            return


def _shrink(rgb: np.ndarray, short_side: int) -> np.ndarray:
    side = min(short_side, *rgb.shape[:2])
    small: np.ndarray = resize_short(torch.from_numpy(rgb).unsqueeze(0), side)[0].numpy()
    return small


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)


def _made_folder(path: Path | str) -> Path:
    folder = Path(path).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, cause_of(error)) from error
    return folder
