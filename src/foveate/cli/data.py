"""Verbs about data: check it, make some, convert its lists, shrink it once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from foveate.choices import ListFormat
from foveate.cli.inputs import demand, demand_writable, is_list, videos_of
from foveate.cli.show import print_json, print_line, print_table, progress_bar, say
from foveate.data.check import Checked, cause_table, check_videos
from foveate.data.check import usable as usable_videos
from foveate.data.lists import VideoList, read_list, write_jsonl
from foveate.data.lists.folder import splits_of
from foveate.data.manifest import KeptRows, write_manifest
from foveate.data.pool import usual_workers
from foveate.data.synthetic import make_figures, make_move4mnist
from foveate.errors import DataError


def check(
    videos: tyro.conf.Positional[Path],
    out: Path | None = None,
    usable: Path | None = None,
    format: ListFormat = "auto",
    root: Path | None = None,
    template: str | None = None,
    split: str | None = None,
    quick: bool = False,
    afresh: bool = False,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Decode every video once and say which are whole, damaged or unusable, and why.

    The exit code is 3 if any is unusable. With --out a second call goes on where one was stopped, and decodes
    only files that are new or have changed.

    Args:
        videos: A list, a folder or one video.
        out: Manifest to write (JSONL): the list, with frames, size, rate, status and cause of every file.
        usable: List to write (JSONL) of the videos that can be used, with the frames that were counted, to
            train from.
        format: Of the list; auto looks.
        root: Folder that its paths start from; that of the list if not given.
        template: Names of extracted frames, such as img_{:05d}.jpg.
        split: Which part, of a format that has several; of a folder all, one after the other, if not given.
        quick: Read packets and decode one picture a file: finds what is cut or no video, not damage inside.
        afresh: Decode files, too, of which the manifest or an unfinished check has a row.
        workers: Processes that decode; one for each processor, at most eight, if not given.
        json: Print one JSON object a file, nothing else.
    """
    for place in filter(None, (out, usable)):
        demand_writable(place, videos)
    splits = splits_of(videos) if videos.is_dir() and not (split or out or usable) else []
    if splits:
        words = (format, root, template)
        found = (
            check(videos, None, None, *words, each.name, quick, afresh, workers, json) for each in splits
        )
        return max(found)
    listed = _to_check(videos, format, root, template, split)
    for note in listed.notes:
        say(note)
    rows = []
    kept = KeptRows(out, afresh) if out else None
    results = check_videos(listed, usual_workers() if workers is None else workers, quick=quick, kept=kept)
    if kept and kept.used:
        say(f"{kept.used} rows are of an earlier check: their files have not changed (--afresh decodes them)")
    if quick:
        say("quick: damage inside the pictures is not looked for")
    with progress_bar("checking") as report:
        for row in results:
            rows.append(row)
            report(len(rows), len(listed))
            _show_row(row, json)
    if out:
        write_manifest(rows, out, listed)
    if kept:
        kept.finish()
    if usable:
        write_jsonl(usable_videos(listed, rows), usable)
    if not json:
        print_table(("status", "cause", "files#"), cause_table(rows))
    return DataError.exit_code if any(row.status == "refused" for row in rows) else 0


def make(
    kind: tyro.conf.Positional[Literal["figures", "move4mnist"]],
    out: tyro.conf.Positional[Path],
    train: int = 1600,
    val: int = 400,
    test: int = 400,
    seed: int = 0,
    workers: int = 2,
    json: bool = False,
) -> int:
    """Make a labelled data set as H.264 files, the same for the same seed.

    Args:
        kind: figures: a small person acts in a cluttered scene. move4mnist: which way does a digit move?
        out: Folder to write; one JSONL list a split lies in it. A second call goes on where one stopped.
        train: Videos to train on.
        val: Videos to choose the best epoch by.
        test: Videos kept for the end.
        seed: Of everything.
        workers: Processes that draw and encode.
        json: Print one JSON object with the list of each split.
    """
    write = make_figures if kind == "figures" else make_move4mnist
    with progress_bar("making videos") as report:
        lists = write(out, train, val, test, seed, workers=workers, progress=report)
    if json:
        print_json({split: str(path) for split, path in lists.items()})
    else:
        for path in lists.values():
            print_line(str(path))
    return 0


def convert_list(
    videos: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    format: ListFormat = "auto",
    root: Path | None = None,
    classes: str | None = None,
    template: str | None = None,
    split: str | None = None,
    json: bool = False,
) -> int:
    """Turn any list format into Foveate's JSONL, saying what was understood.

    Args:
        videos: The list, or a folder.
        out: JSONL file to write.
        format: jsonl, folder (one sub-folder a class), csv (header with path and label), or that of a
            project or data set; auto looks.
        root: Folder that the paths start from; that of the list if not given.
        classes: File of class names, or a public set such as kinetics400.
        template: Names of extracted frames, such as img_{:05d}.jpg.
        split: Which part, of a format that has several.
        json: Print one JSON object.
    """
    demand_writable(out, videos)
    listed = read_list(videos, format, root, classes, template, split)
    write_jsonl(listed, out)
    _show_list(listed, out, json)
    return 0


def cache(
    videos: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    short_side: int = 128,
    max_frames: int | None = None,
    format: ListFormat = "auto",
    root: Path | None = None,
    template: str | None = None,
    split: str | None = None,
    workers: int = 2,
    json: bool = False,
) -> int:
    """Decode every video once and keep small copies, from which training reads without decoding.

    The exit code is 3 if a video could not be copied; the list then has the others.

    Args:
        videos: A list or a folder with one sub-folder a class.
        out: Folder for the copies and their list.jsonl. A second call goes on where one stopped.
        short_side: Pixels of the shorter side; smaller videos stay as they are.
        max_frames: Keep every k-th frame so that at most this many are left; all if not given.
        format: Of the list; auto looks.
        root: Folder that its paths start from; that of the list if not given.
        template: Names of extracted frames, such as img_{:05d}.jpg.
        split: Which part, of a format that has several.
        workers: Processes that decode.
        json: Print one JSON object.
    """
    from foveate.data.cache import cache_videos  # which needs PyTorch, unlike the verbs above

    demand(0, workers=workers)
    listed = read_list(videos, format, root, None, template, split)
    with progress_bar("shrinking videos") as report:
        cached = cache_videos(listed, out, short_side, max_frames, workers, report)
    _show_list(cached, out / "list.jsonl", json)
    return 0 if len(cached) == len(listed) else DataError.exit_code


def _to_check(
    videos: Path, format: ListFormat, root: Path | None, template: str | None, split: str | None
) -> VideoList:
    """A list as such, a folder as a list of the videos in it, a single video as a list of one."""
    if is_list(videos) or videos.is_dir() or format != "auto":
        return read_list(videos, format, root, None, template, split)
    return VideoList(tuple(videos_of([videos], template)), (), "paths")


def _show_row(row: Checked, json: bool) -> None:
    if json:
        print_json(row.to_dict())
    elif row.status != "ok":
        print_line(f"{row.status}  {row.path}: {row.cause}")


def _show_list(listed: VideoList, path: Path, json: bool) -> None:
    if json:
        counts = {"videos": len(listed), "classes": listed.num_classes}
        print_json({"list": str(path), **counts, "notes": listed.notes})
        return
    for note in listed.notes:
        say(note)
    print_line(f"{path}: {len(listed)} videos, {listed.num_classes} classes")
