"""What is said of training and validation lists before a training begins: signs that it will come to harm."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from foveate.clip import Modality
from foveate.data.lists import VideoEntry, VideoList
from foveate.errors import DataError
from foveate.video import open_video

FEW = 5  # videos of a class
UNEVEN = 10  # times as many videos in the largest class as in the smallest
PROBE = 4096  # bytes that are compared of each of three places in a file
OPENED = 300  # videos of a list that are opened to see whether they can be


def list_warnings(train: VideoList, val: VideoList | None = None, weighed: bool = False) -> list[str]:
    """One line for each sign of harm in the lists of a training.

    These are classes without videos or with few, labels that are all one, uneven classes (unless they are
    weighed: by weights in the loss or a balanced sampler), and videos that both lists hold.
    """
    lines = _class_warnings(train, weighed)
    if val is None:
        return lines
    shared = shared_videos(train, val)
    if shared:
        first = f"the first {_short(shared[0].path)}"
        lines.append(
            f"{len(shared)} of {len(val)} validation videos are in the training list too, {first}: "
            f"their scores say nothing (take them out of one list)"
        )
    unseen = {label for entry in val.entries for label in entry.labels}
    unseen -= {label for entry in train.entries for label in entry.labels}
    if unseen:
        lines.append(f"validation has classes without a training video: {_named(train, sorted(unseen))}")
    return lines


def _class_warnings(train: VideoList, weighed: bool) -> list[str]:
    counts = class_counts(train)
    there = {label: count for label, count in enumerate(counts) if count}
    few = [label for label, count in there.items() if count < FEW]
    absent = [label for label in range(train.num_classes) if label not in there]
    lines = []
    if len(there) == 1 and not train.multi_label:
        only = _named(train, list(there))
        lines.append(f"all {len(train)} videos are of one class, {only}: nothing can be learnt from that")
    if absent:
        lines.append(f"{len(absent)} of {train.num_classes} classes have no video: {_named(train, absent)}")
    if few and len(there) > 1:
        lines.append(
            f"{len(few)} of {train.num_classes} classes have fewer than {FEW} videos: {_named(train, few)} "
            f"(some dozens a class are the least that is learnt from)"
        )
    if len(there) > 1 and max(counts) >= UNEVEN * min(there.values()) and not weighed:
        most, least = max(counts), min(there.values())
        lines.append(f"classes are uneven, {most} to {least} videos (try --sampler balanced)")
    return lines


def class_counts(videos: VideoList) -> list[int]:
    """The number of videos of each class."""
    counts = Counter(label for entry in videos.entries for label in entry.labels)
    return [counts[label] for label in range(videos.num_classes)]


def shared_videos(train: VideoList, val: VideoList) -> list[VideoEntry]:
    """Validation entries whose content the training list has too, by path, or by size and some of its bytes.

    Two parts of one video count where they overlap.
    """
    parts: defaultdict[str, list[VideoEntry]] = defaultdict(list)
    sizes: defaultdict[int, set[str]] = defaultdict(set)
    for entry in train.entries:
        parts[os.path.abspath(entry.path)].append(entry)  # noqa: PTH100 (a Path a line is slow)
    for path in parts:
        sizes[_size(path)].add(path)
    probes: dict[str, bytes] = {}

    def probe(path: str) -> bytes:
        if path not in probes:
            probes[path] = _probe(path)
        return probes[path]

    shared = []
    for entry in val.entries:
        path = os.path.abspath(entry.path)  # noqa: PTH100
        size = -1 if path in parts else _size(path)
        same = [path] if path in parts else []
        same += [other for other in sizes[size] if size > 0 and probe(other) == probe(path)]
        if any(_overlap(entry, other) for found in same for other in parts[found]):
            shared.append(entry)
    return shared


def check_openable(
    videos: VideoList, subject: object, allowed: int, modality: Modality | None = None
) -> None:
    """Open the videos of a list, or some hundred of a long one, before anything is begun.

    modality: what the model reads of a folder, as of `open_video`.

    DataError, which names the first bad one and its cause, if more than `allowed` of the list cannot be
    opened, by what these show, or none can.
    """
    step = len(videos) // OPENED + 1
    opened = videos.entries[::step]
    bad = [(entry, cause) for entry in opened if (cause := _fault(entry, modality))]
    sure = step == 1 or len(bad) > 2  # one or two of some may be all that there are
    if bad and sure and (len(bad) == len(opened) or len(bad) * step > allowed):
        entry, cause = bad[0]
        what = f"{len(bad)} of {len(opened)} videos cannot be read, the first {_short(entry.path)}: {cause}"
        hint = "`foveate data check` lists them all, and --usable leaves them out"
        raise DataError(subject, what[:200], hint)


def _fault(entry: VideoEntry, modality: Modality | None) -> str:
    try:
        open_video(entry.path, entry.template, modality=modality).close()
    except DataError as error:
        return error.cause
    return ""


def _overlap(one: VideoEntry, other: VideoEntry) -> bool:
    """Whether two parts of a video may share a frame; those in other units than each other may."""
    for start, end in (("start", "end"), ("start_s", "end_s")):
        ends = [getattr(entry, end) for entry in (one, other)]
        starts = [getattr(entry, start) or 0 for entry in (one, other)]
        if any(e is not None and e <= s for e, s in zip(ends, reversed(starts), strict=True)):
            return False
    return True


def _size(path: str) -> int:
    """Of a file in bytes, of a folder the sum over the files in it; 0 where there is nothing."""
    try:
        if os.path.isdir(path):  # noqa: PTH112
            with os.scandir(path) as items:
                return sum(item.stat().st_size for item in items if item.is_file())
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0


def _probe(path: str) -> bytes:
    """A hash of the beginning, the middle and the end of a file, or of the first file of a folder."""
    digest = hashlib.sha256()
    place = Path(path)
    try:
        file = min(item for item in place.iterdir() if item.is_file()) if place.is_dir() else place
        size = file.stat().st_size
        with file.open("rb") as stream:
            for start in (0, size // 2, max(0, size - PROBE)):
                stream.seek(start)
                digest.update(stream.read(PROBE))
    except (OSError, ValueError):
        return os.urandom(8)  # like no other
    return digest.digest()


def _named(videos: VideoList, labels: Sequence[int]) -> str:
    names = [videos.class_names[label][:30] for label in labels[:3]]
    return ", ".join(names) + (", .." if len(labels) > 3 else "")


def _short(path: str) -> str:
    return path if len(path) <= 80 else f"..{path[-78:]}"
