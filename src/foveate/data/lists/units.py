"""Whether whole numbers in columns such as start and end can be seconds, by the videos themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foveate.data.lists.rows import ListSource
from foveate.data.text import whole_number
from foveate.errors import FoveateError
from foveate.video import open_video

LOOKED_AT = 8  # videos
LEAST_FPS = 4.0  # of a slower video seconds and frames are too much alike


def within_seconds(ends: Iterable[tuple[str, Any]], source: ListSource) -> bool:
    """Whether every stretch ends within its video when taken as seconds, for some videos of the list.

    As numbers of frames such stretches would lie, all of them, in the first moment of their videos: at 25
    frames a second in the first twenty-fifth. ends: path and end of each row. False where no video is there.
    """
    latest: dict[str, int] = {}
    for path, end in ends:
        number = whole_number(str(end).strip())
        if number is None or number < 1:
            return False
        latest[path] = max(number, latest.get(path, 0))
    lengths = []
    for path, end_s in latest.items():
        try:
            with open_video(source.folder / path) as video:
                lengths.append((end_s, video.info.duration_s, video.info.fps))
        except (FoveateError, OSError, ValueError):
            continue
        if len(lengths) == LOOKED_AT:
            break
    return bool(lengths) and all(end <= seconds + 0.5 and fps >= LEAST_FPS for end, seconds, fps in lengths)
