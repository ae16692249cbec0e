"""Folders in place of lists: one subfolder per class, or just videos.

A video is a file with a suffix of a container, a .npy array, or a folder that holds numbered images.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.errors import DataError, UsageError
from foveate.video.images import SUFFIXES as IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    """.mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .m2v .ts .mts .m2ts .vob .wmv .asf .flv .3gp .ogv .dv
    .h264 .264 .h265 .hevc .mjpeg .gif .npy""".split()  # noqa: SIM905
)
SPLITS = ("train", "val", "validation", "test")


def has_suffix(name: str, suffixes: Set[str]) -> bool:
    """Whether a file name ends in one of the suffixes, in capitals or not."""
    return os.path.splitext(name)[1].lower() in suffixes  # noqa: PTH122 (a Path per line of a list is slow)


def find_videos(folder: Path) -> list[str]:
    """Paths of all videos below `folder`, sorted, links followed; a folder without any raises DataError."""
    walk = _Walk(folder)
    paths = sorted(str(folder / name) for name in walk.videos())
    if not paths:
        raise DataError(folder, "holds no videos", "; ".join(walk.notes()))
    return paths


def read_folder(source: ListSource) -> ParsedList:
    """The videos of `folder/class/..`, or of `folder/split/class/..` for the chosen split.

    Class names are those of all splits together, so that training and validation agree. A folder with no
    subfolder of videos gives videos without labels. A split that is needed and not chosen, or chosen and
    not there, raises UsageError.
    """
    folder, all_splits = _chosen_split(source)
    prefix = folder.relative_to(source.path)
    walk = _Walk(folder)
    names = _class_folders(all_splits)
    rows = []
    for video in sorted(walk.videos()):
        name, inner, _ = video.partition(os.sep)
        rows.append(Row(0, str(prefix / video), (name,) if inner and name in names else ()))
    notes = walk.notes()
    if not any(row.labels for row in rows):
        return ParsedList(rows, "names", notes=[*notes, "no subfolders of videos: videos without labels"])
    return ParsedList(rows, "names", tuple(sorted(names)), notes=[f"{len(names)} class folders", *notes])


def _chosen_split(source: ListSource) -> tuple[Path, list[Path]]:
    """The folder to read and the folders that hold class folders."""
    inside = [path for path in sorted(source.path.iterdir()) if path.is_dir()]
    splits = [path for path in inside if path.name.lower() in SPLITS]
    found = ", ".join(path.name for path in splits)
    if len(splits) < len(inside) or not splits:  # a class may be called "test"
        if source.split:
            raise UsageError(source.path, f"has no split '{source.split}'", "its subfolders are classes")
        return source.path, [source.path]
    if not source.split:
        hint = "choose one by --split; training takes --val-split as well"
        raise UsageError(source.path, f"holds the splits {found}", hint)
    wanted = ("val", "validation") if source.split in ("val", "validation") else (source.split,)
    chosen = [path for path in splits if path.name.lower() in wanted]
    if len(chosen) != 1:
        raise UsageError(source.path, f"has no single split '{source.split}'", f"there are {found}")
    return chosen[0], splits


def _class_folders(folders: Iterable[Path]) -> set[str]:
    names = set()
    for folder in folders:
        inside = (item for item in _items(folder) if _is_folder(item) and not item.name.startswith("."))
        names |= {item.name for item in inside if not _is_clip(_items(folder / item.name))}
    return names


def _items(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return sorted(items, key=lambda item: item.name)
    except OSError as error:
        raise DataError(folder, error.strerror or str(error)) from error


def _is_folder(item: os.DirEntry[str]) -> bool:
    return Path(item).is_dir() if item.is_symlink() else item.is_dir()  # a looping link is no folder


def _is_clip(items: Iterable[os.DirEntry[str]]) -> bool:
    """Whether a folder is one video: images, and neither videos nor folders among them."""
    images = False
    for item in items:
        if has_suffix(item.name, VIDEO_SUFFIXES) or _is_folder(item):
            return False
        images = images or has_suffix(item.name, IMAGE_SUFFIXES)
    return images


@dataclass
class _Walk:
    """One pass over a folder that remembers what it left out."""

    root: Path
    left_out: Counter[str] = field(default_factory=Counter)

    def videos(self) -> Iterator[str]:
        """Paths relative to the root."""
        return self._inside("", frozenset())

    def _inside(self, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        place = self.root / folder
        items = _items(place)
        status = place.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:  # a link to a folder that we are in
            self.left_out["links back"] += 1
        elif folder and _is_clip(items):
            yield folder
        else:
            for item in items:
                yield from self._item(item, os.path.join(folder, item.name), above | {here})  # noqa: PTH118

    def _item(self, item: os.DirEntry[str], name: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        if _is_folder(item) and item.name.startswith("."):
            self.left_out["hidden folders"] += 1
        elif _is_folder(item):
            yield from self._inside(name, above)
        elif has_suffix(item.name, VIDEO_SUFFIXES):
            yield name
        else:
            self.left_out[Path(item.name).suffix or item.name] += 1

    def notes(self) -> list[str]:
        if not self.left_out:
            return []
        kinds = ", ".join(f"{kind} ({count})" for kind, count in self.left_out.most_common(5))
        return [f"{self.left_out.total()} left out, no videos by their names: {kinds}"]
