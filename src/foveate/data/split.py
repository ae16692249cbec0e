"""A list cut into a training and a validation part, the same for the same seed wherever the videos lie."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from foveate.data.lists import VideoEntry, VideoList
from foveate.errors import DataError


def split_videos(videos: VideoList, share: float, seed: int) -> tuple[VideoList, VideoList]:
    """The training part, and `share` of every class for validation, at least one video of each.

    Which videos is a function of the seed and of their names, with that of the folder they are in. All parts
    of one video go to one side, with the class of the first. A class of one video stays in training.
    DataError if nothing can be kept apart.
    """
    files: defaultdict[tuple[int, ...], dict[str, None]] = defaultdict(dict)
    known: set[str] = set()
    for entry in videos.entries:
        if entry.path not in known:
            known.add(entry.path)
            files[entry.labels[:1]][entry.path] = None

    def rank(path: str) -> tuple[bytes, str]:
        name = f"{seed} {'/'.join(Path(path).parts[-2:])}"
        return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest(), path

    kept: set[str] = set()
    for own in files.values():
        count = min(max(1, round(share * len(own))), len(own) - 1)
        kept |= {*sorted(own, key=rank)[:count]}
    if not kept:
        raise DataError("--val-share", "no class has two videos", "give a validation list by --val")

    def part(entries: list[VideoEntry]) -> VideoList:
        return replace(videos, entries=tuple(entries))

    train = part([entry for entry in videos.entries if entry.path not in kept])
    return train, part([entry for entry in videos.entries if entry.path in kept])
