"""Verbs about data: check it, make some, convert its lists, shrink it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import tyro
from rich.progress import Progress

from foveate.cli.show import console, notes, print_json, print_table, say
from foveate.data.cache import cache_videos
from foveate.data.check import cause_table, check_videos, write_manifest
from foveate.data.lists import Format, VideoList, read_list, write_jsonl
from foveate.data.made import make_figures, make_move4mnist
from foveate.errors import DataError


def check(
    videos: tyro.conf.Positional[Path],
    out: Path | None = None,
    format: Format = "auto",
    root: Path | None = None,
    template: str | None = None,
    split: str | None = None,
    workers: int = 2,
    json: bool = False,
) -> int:
    """Decode every video once and say which are whole, damaged or unusable, and why.

    Args:
        videos: A list, a folder or one video.
        out: Manifest to write (JSONL): frames, size, rate, status, cause and fingerprint of every file.
        format: Of the list.
        root: Folder that its paths start from.
        template: Names of extracted frames, such as img_{:05d}.jpg.
        split: Of a format that has several.
        workers: Processes that decode.
        json: Print one JSON object a file, nothing else.
    """
    rows = []
    for row in check_videos(_what_to_check(videos, format, root, template, split), workers=workers):
        rows.append(row)
        if json:
            print_json(row.to_dict())
        elif row.status != "ok":
            console.print(
                f"{row.status}  {row.to_dict()['path']}: {row.cause}", markup=False, highlight=False
            )
    if out:
        write_manifest(rows, out)
    if not json:
        print_table(f"{len(rows)} files", ("status", "cause", "files#"), cause_table(rows))
    return DataError.exit_code if any(row.status == "refused" for row in rows) else 0


def make(
    kind: tyro.conf.Positional[Literal["figures", "move4mnist"]],
    out: tyro.conf.Positional[Path],
    train: int = 1600,
    val: int = 400,
    test: int = 400,
    seed: int = 0,
    workers: int = 2,
) -> int:
    """Make a labelled data set as H.264 files, the same for the same seed.

    Args:
        kind: figures: a small person acts in a cluttered scene. move4mnist: which way does a digit move?
        out: Folder to write; one JSONL list a split lies in it. A second call goes on where one stopped.
        train: Videos to train on.
        val: Videos to validate with.
        test: Videos kept for the end (figures).
        seed: Of everything.
        workers: Processes that draw and encode.
    """
    with progress_bar("making videos") as report:
        if kind == "figures":
            lists = make_figures(out, train, val, test, seed, workers=workers, progress=report)
        else:
            lists = make_move4mnist(out, train, val, seed, workers=workers, progress=report)
    for path in lists.values():
        console.print(str(path), markup=False, highlight=False)
    return 0


def convert_list(
    videos: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    format: Format = "auto",
    root: Path | None = None,
    classes: str | None = None,
    template: str | None = None,
    split: str | None = None,
) -> int:
    """Turn any list format into Foveate's JSONL, saying what was understood.

    Args:
        videos: The list, or a folder.
        out: JSONL file to write.
        format: jsonl, folder (one sub-folder a class), csv (header with path and label), pyslowfast,
            mmaction2, tsm, adafocus, ibm, something_v1, something_v2, kinetics, ucf101, hmdb51.
        root: Folder that the paths start from.
        classes: File of class names, or a public set such as kinetics400.
        template: Names of extracted frames, such as img_{:05d}.jpg.
        split: Of a format that has several.
    """
    listed = read_list(videos, format, root, classes, template, split)
    write_jsonl(listed, out)
    for note in listed.notes:
        say(note)
    console.print(f"{out}: {len(listed)} videos, {listed.num_classes} classes", markup=False, highlight=False)
    return 0


def cache(
    videos: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    short_side: int = 128,
    max_frames: int | None = None,
    format: Format = "auto",
    root: Path | None = None,
    template: str | None = None,
    split: str | None = None,
    workers: int = 2,
) -> int:
    """Decode every video once and keep small copies, from which training reads without decoding.

    Args:
        videos: A list or a folder with one sub-folder a class.
        out: Folder for the copies and their list.jsonl.
        short_side: Pixels of the shorter side.
        max_frames: Keep every k-th frame so that at most this many are left.
        format: Of the list.
        root: Folder that its paths start from.
        template: Names of extracted frames, such as img_{:05d}.jpg.
        split: Of a format that has several.
        workers: Processes that decode.
    """
    listed = read_list(videos, format, root, None, template, split)
    with progress_bar("shrinking videos") as report:
        cached = cache_videos(listed, out, short_side, max_frames, workers, report)
    for note in cached.notes:
        say(note)
    console.print(
        f"{out / 'list.jsonl'}: {len(cached)} of {len(listed)} videos", markup=False, highlight=False
    )
    return 0 if len(cached) == len(listed) else DataError.exit_code


def _what_to_check(
    videos: Path, format: Format, root: Path | None, template: str | None, split: str | None
) -> VideoList | list[Path]:
    """A list as such; a folder as the videos below it, whatever they are called; a single video as itself."""
    from foveate.cli.use import LIST_ENDINGS, videos_below

    if videos.suffix.lower() in LIST_ENDINGS or format != "auto":
        return read_list(videos, format, root, None, template, split)
    return videos_below(videos) if videos.is_dir() else [videos]


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error with the time left; nothing where that is not a terminal."""
    with Progress(console=notes, disable=not notes.is_terminal) as bars:
        bar = bars.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        yield report
