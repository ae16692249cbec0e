"""Folders in place of lists: one subfolder per class, or just videos.

A video is a file with a suffix of a container, a .npy array, or a folder that holds numbered images. What an
operating system leaves beside files, such as the `._NAME` companions of macOS, is none.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from foveate.data.lists.rows import ListSource, ParsedList, Row
from foveate.errors import DataError, UsageError
from foveate.video.numbered import FLOW_FOLDERS
from foveate.video.numbered import SUFFIXES as IMAGE_SUFFIXES

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    """.mp4 .m4v .mov .qt .avi .divx .mkv .webm .mpg .mpeg .mpe .m1v .m2v .ts .mts .m2ts .vob .wmv .asf .rm
    .rmvb .flv .f4v .3gp .3g2 .ogv .ogm .dv .mxf .nut .ivf .y4m .h264 .264 .h265 .hevc .mjpeg .gif
    .npy""".split()  # noqa: SIM905
)
COMPANION = "._"  # begins the file that macOS writes beside another on a disk or in a zip of another system
SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
SPLITS = ("train", "val", "validation", "test")


def has_suffix(name: str, suffixes: Set[str]) -> bool:
    """Whether a file name ends in one of the suffixes, in capitals or not."""
    return os.path.splitext(name)[1].lower() in suffixes  # noqa: PTH122 (a Path per line of a list is slow)


def find_videos(folder: Path) -> list[str]:
    """Paths of all videos below `folder`, sorted, links followed; a folder without any raises DataError.

    What was left out, by its suffix, is logged.
    """
    walk = _Walk(folder)
    paths = sorted(str(folder / name) for name in walk.videos())
    if not paths:
        hint = "; ".join(walk.notes()) or "nothing in it, or below it, has the name of a video, such as a.mp4"
        raise DataError(folder, "holds no videos", hint)
    for note in walk.notes():
        log.info("%s: %s", folder, note)
    return paths


def videos_below(folder: Path) -> list[str]:
    """Paths of all videos below `folder`, relative to it; none where there is no such folder."""
    return sorted(_Walk(folder).videos()) if folder.is_dir() else []


def video_name(path: str) -> str:
    """The last part of a path, without the suffix of a video file: that of a.mp4 and of a folder a is a."""
    name = Path(path).name
    return Path(name).stem if has_suffix(name, VIDEO_SUFFIXES) else name


def is_companion(path: str) -> bool:
    """Whether a path is that of a companion file of macOS, which holds no video."""
    return os.path.basename(path).startswith(COMPANION)  # noqa: PTH119 (a Path per line of a list is slow)


def read_folder(source: ListSource) -> ParsedList:
    """The videos of `folder/class/..`, or of `folder/split/class/..` for the chosen split.

    Class names are those of all splits together, so that training and validation agree; a folder without
    videos in any of them is no class. A folder with no subfolder of videos gives videos without labels. A
    split that is needed and not chosen, or chosen and not there, raises UsageError.
    """
    folder, all_splits = _chosen_split(source)
    prefix = folder.relative_to(source.path)
    walk = _Walk(folder)
    names, empty = _class_folders(all_splits)
    before = "" if prefix == Path() else f"{prefix}{os.sep}"
    rows = []
    for video in sorted(walk.videos()):
        name, inner, _ = video.partition(os.sep)
        rows.append(Row(0, before + video, (name,) if inner and name in names else ()))
    notes = walk.notes()
    if empty:
        count = f"{len(empty)} folders without videos are" if len(empty) > 1 else "a folder without videos is"
        notes.append(f"{count} no class: {', '.join(sorted(empty)[:8])}")
    if not any(row.labels for row in rows):
        return ParsedList(rows, "names", notes=[*notes, "no subfolders of videos: videos without labels"])
    return ParsedList(rows, "names", tuple(sorted(names)), notes=[f"{len(names)} class folders", *notes])


def splits_of(folder: Path) -> list[Path]:
    """The folders of splits that a folder consists of; none where it holds anything else."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_passed_over(path.name)]
    splits = [path for path in inside if path.name.lower() in SPLITS]
    return splits if len(splits) == len(inside) else []  # a class may be called "test"


def _chosen_split(source: ListSource) -> tuple[Path, list[Path]]:
    """The folder to read and the folders that hold class folders."""
    splits = splits_of(source.path)
    found = ", ".join(path.name for path in splits)
    if not splits:
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


def _class_folders(folders: Iterable[Path]) -> tuple[set[str], set[str]]:
    """The names of the subfolders that hold videos, in any of the folders, and of those that hold none."""
    names: set[str] = set()
    empty: set[str] = set()
    for folder in folders:
        for item in _items(folder):
            if (
                _is_folder(item)
                and not _is_passed_over(item.name)
                and not _is_clip(_items(folder / item.name))
            ):
                holds = next(_Walk(folder / item.name).videos(), None) is not None
                (names if holds else empty).add(item.name)
    return names, empty - names


def _items(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return sorted(items, key=lambda item: item.name)
    except OSError as error:
        raise DataError(folder, error.strerror or str(error)) from error


def _is_passed_over(folder: str) -> bool:
    """Whether a folder of this name is the system's own, or hidden."""
    return folder.startswith(".") or folder.lower() in SYSTEM_FOLDERS


def _is_folder(item: os.DirEntry[str]) -> bool:
    return Path(item).is_dir() if item.is_symlink() else item.is_dir()  # a looping link is no folder


def is_flow(folder: Path) -> bool:
    """Whether a folder holds two sub-folders of pictures, of the x and of the y of optical flow."""
    return _is_flow(_items(folder))


def _is_flow(items: Iterable[os.DirEntry[str]]) -> bool:
    folders = {item.name: item for item in items if _is_folder(item)}
    return tuple(sorted(folders)) in FLOW_FOLDERS and all(
        _holds_images(_items(Path(each))) for each in folders.values()
    )


def _is_clip(items: Sequence[os.DirEntry[str]]) -> bool:
    """Whether a folder is one video: images, and neither videos nor folders among them, or flow."""
    return _holds_images(items) or _is_flow(items)


def _holds_images(items: Iterable[os.DirEntry[str]]) -> bool:
    images = False
    for item in items:
        if item.name.startswith(COMPANION):
            continue
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
        if _is_folder(item):
            if _is_passed_over(item.name):
                self.left_out["hidden folders" if item.name.startswith(".") else item.name] += 1
            else:
                yield from self._inside(name, above)
        elif item.name.startswith(COMPANION):
            self.left_out["._ companions of macOS"] += 1
        elif has_suffix(item.name, VIDEO_SUFFIXES):
            yield name
        else:
            self.left_out[Path(item.name).suffix.lower() or "no suffix"] += 1

    def notes(self) -> list[str]:
        if not self.left_out:
            return []
        kinds = ", ".join(f"{kind} ({count})" for kind, count in self.left_out.most_common(5))
        more = "" if len(self.left_out) <= 5 else ", .."
        return [f"{self.left_out.total()} left out, no videos by their names: {kinds}{more}"]
