"""What the words of a command line mean: videos, models, devices, places to write to."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from glob import glob, has_magic
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.errors import DataError, OutputError, UsageError

if TYPE_CHECKING:  # the list of a verb's options does not wait for PyTorch or FFmpeg
    import torch

    from foveate.data.lists import VideoEntry
    from foveate.models.base import VideoModel

log = logging.getLogger(__name__)

LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv", ".json", ".jsonl", ".lst"})


PIPE = "-"  # a video file on standard input


def videos_of(names: Sequence[str | Path], template: str | None = None) -> list[VideoEntry]:
    """Every video that the names mean: files and URLs as such, those below a folder, those of a list.

    A pattern with *, ** or ? means the files that fit it, on the disk or in an object store; a URL that ends
    in / all videos below it.
    A list or a folder that gives none raises DataError; a file is not looked at.
    """
    if not names:
        raise UsageError("videos", "none given", "name files, folders or lists")
    return [entry for name in names for entry in _videos_of(str(name), template)]


def _videos_of(name: str, template: str | None) -> Iterator[VideoEntry]:
    from foveate.data.lists import VideoEntry, read_list
    from foveate.video.source import URL, urls_of

    path = Path(name)
    if URL.match(name) and (has_magic(name) or name.endswith("/")):
        from foveate.data.lists.folder import VIDEO_SUFFIXES, has_suffix

        found = urls_of(name, lambda each: has_suffix(each, VIDEO_SUFFIXES))
        yield from map(VideoEntry, found)
    elif name == PIPE or URL.match(name):
        yield VideoEntry(name)
    elif has_magic(name) and not os.path.lexists(path):
        found = sorted(glob(name, recursive=True))  # noqa: PTH207 (which takes no absolute pattern)
        if not found:
            raise DataError(name, "no file fits this pattern", "check it; ** stands for any folders")
        yield from (VideoEntry(each, template=template) for each in found)
    elif is_list(path):
        listed = read_list(path, template=template)
        for note in listed.notes:
            log.info("%s: %s", path, note)
        yield from listed.entries
    elif path.is_dir():
        yield from (VideoEntry(found, template=template) for found in _below(path))
    else:
        yield VideoEntry(str(path), template=template)


def source_of(entry: VideoEntry) -> Any:
    """What a reader opens of a line: standard input for a pipe."""
    return sys.stdin.buffer if entry.path == PIPE else entry


def is_list(path: Path) -> bool:
    """Whether a path is a list by its name, compressed or not."""
    from foveate.data.lists.folder import has_suffix

    return has_suffix(path.name.removesuffix(".gz"), LIST_SUFFIXES) and not path.is_dir()


def _below(folder: Path) -> list[str]:
    """The videos below a folder, or the folder itself where it holds pictures, or flow, alone."""
    from foveate.data.lists.folder import find_videos, has_suffix, is_flow
    from foveate.video.numbered import SUFFIXES as IMAGE_SUFFIXES

    if is_flow(folder):
        return [str(folder)]
    try:
        return find_videos(folder)
    except DataError:
        if any(has_suffix(child.name, IMAGE_SUFFIXES) for child in folder.iterdir()):
            return [str(folder)]
        raise


def resize_input(model: VideoModel, size: int | None, resize: int | None) -> None:
    """Let a model see crops of another size; UsageError for one whose parts are made for its own."""
    if size is None and resize is None:
        return
    if not model.resizable:
        raise UsageError("--size", f"{model.name} chooses among sizes of its own", "leave it out")
    demand(1, size=size, resize=resize)
    side = size or model.spec.size
    try:
        model.spec = replace(model.spec, size=side, resize=resize or max(side, model.spec.resize))
    except ValueError as error:
        raise UsageError("--resize", str(error), "it must be at least --size") from error


def calibrate_on(
    videos: Path, model: VideoModel, engine: str, precision: str | None, template: str | None
) -> None:
    """Calibrate a model for int8 on a list or folder; UsageError if int8 or its engine is not asked for."""
    if precision != "int8":
        raise UsageError("--calibrate", "is for int8 alone", "add --precision int8")
    if engine not in ("auto", "openvino"):
        raise UsageError("--precision int8", f"{engine} does not have it", "use --engine openvino")
    from foveate.infer.calibrate import calibrate

    calibrate(model, [source_of(entry) for entry in videos_of([videos], template)])


def device_named(name: str) -> torch.device:
    """cpu, cuda or cuda:1; UsageError for another, or one that is not here."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError("device", f"'{name}' is none to compute on", "use cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("device", "this machine or this PyTorch has no CUDA", "use --device cpu")
    return device


def demand(least: int, **options: int | None) -> None:
    """UsageError for an option that is given and less than it can be."""
    for name, value in options.items():
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')}", f"is {value}", f"give at least {least}")


def demand_writable(out: Path, source: Path | None = None) -> None:
    """Refuse a place for a result before the work begins: OutputError, or UsageError if it is the input."""
    folder = out.absolute().parent
    if not folder.is_dir():
        raise OutputError(out, f"there is no folder {folder}", "make it first")
    if out.is_dir():
        raise OutputError(out, "is a folder", "name a file in it")
    if not os.access(folder, os.W_OK):
        raise OutputError(out, f"you may not write in {folder}", "choose another place")
    if source is not None and out.exists() and source.exists() and out.samefile(source):
        raise UsageError(out, "is the input itself", "name another file")


def check_page(out: Path) -> None:
    """Refuse a place for a report before the work begins: UsageError unless it ends in .html."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(out, "is no place for a report", "name an .html file")
    demand_writable(out)


def cluster_places(out: Path, sources: Sequence[VideoEntry], model: VideoModel) -> list[Path | None]:
    """Where the picture of each video's clusters goes. UsageError for a model that makes none."""
    if "clusters" not in model.reports:
        hint = "use a full-video model with eval_mode=cluster"
        raise UsageError("--clusters", f"{model.name} makes no clusters", hint)
    return places_for("--clusters", out, sources, ".clusters.png")


def places_for(option: str, out: Path, sources: Sequence[VideoEntry], ending: str) -> list[Path | None]:
    """`out` itself for one video, files named after the videos in a folder. Refused before the work begins.

    ending: of the names in a folder, such that none is that of a video itself; `out` must end as it does.
    """
    if PIPE in (source.path for source in sources):
        raise UsageError(option, "of a pipe, which can be read only once", "save the video to a file first")
    if not out.is_dir():
        if len(sources) > 1:
            raise UsageError(option, f"{len(sources)} videos and '{out}' is no folder", "make it first")
        if out.suffix.lower() != Path(ending).suffix:
            raise UsageError(
                option, f"'{out}' does not end in {Path(ending).suffix}", "it is written as that"
            )
        demand_writable(out, Path(sources[0].path))
        return [out]
    if not os.access(out, os.W_OK):
        raise OutputError(out, "you may not write in it", "choose another place")
    taken = {Path(source.path).name for source in sources}
    places: list[Path | None] = []
    for source in sources:
        stem = Path(source.path).stem
        names = chain([f"{stem}{ending}"], (f"{stem}-{number}{ending}" for number in count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        places.append(out / name)
    return places
