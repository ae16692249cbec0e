"""Which frames of a video an entry of a list means: one answer for training, checking and prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foveate.data.lists import VideoEntry
from foveate.errors import DataError
from foveate.video import Video


def frame_range(entry: VideoEntry, video: Video, cut_short: bool = False) -> tuple[int, int]:
    """First frame and number of frames of an entry: its stretch if it has one, else as many as it counts.

    A stretch in seconds goes from the frame shown at `start_s` to the last one that begins before `end_s`,
    and ends with the video at the latest. Of optical flow, entries count flows, or the frames of which there
    is one more, and the result stacks that lie within the stretch. Raises DataError where no frame is left,
    and where the video has not the frames that the entry counts or asks for. cut_short: a damaged video may
    lack them at its end.
    """
    beyond = video.span - 1  # pictures that the last frame shows beside its own
    there = video.info.frames + beyond
    entry = _of_flow(entry, there) if beyond else entry
    if entry.frames is not None and entry.frames > there:
        hint = "count again, or write a list by `foveate data check --usable`"
        raise DataError(entry.path, f"the list says {entry.frames} frames, it has {there}", hint)
    if entry.start is None and entry.end is None and (entry.start_s, entry.end_s) != (None, None):
        start, end = _range_of_seconds(entry.start_s, entry.end_s, video)
    else:
        count = there if entry.frames is None else entry.frames
        start, end = entry.start or 0, count if entry.end is None else entry.end
    if cut_short and video.damage:
        end = min(end, there)
    if end > there:
        raise DataError(entry.path, f"frames {start} to {end} are requested, and it has {there}")
    if end - beyond <= start:
        what = f"fewer than {video.span} optical flows" if beyond else "no frame"
        raise DataError(entry.path, f"{what} in the range from {start} to {end}")
    return start, end - beyond - start


def _of_flow(entry: VideoEntry, flows: int) -> VideoEntry:
    """An entry that counts the frames between which there are so many flows, as one that counts these."""
    frames, end = (flows if count == flows + 1 else count for count in (entry.frames, entry.end))
    return replace(entry, frames=frames, end=end)


def _range_of_seconds(start_s: float | None, end_s: float | None, video: Video) -> tuple[int, int]:
    times = video.times
    if video.span > 1:  # and those of the pictures that begin no frame
        times = np.concatenate([times, times[-1] + np.arange(1, video.span) / video.info.fps])
    start = 0 if start_s is None else int(np.searchsorted(times, start_s, side="right")) - 1
    if start_s is not None and start_s >= video.info.duration_s:
        start = len(times)  # nothing is shown then, not even the last frame
    return max(start, 0), len(times) if end_s is None else int(np.searchsorted(times, end_s))
