"""Where a model looked, in the pixels of the video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foveate.clip import ClipSpec


@dataclass(frozen=True)
class Look:
    """One frame that a model with patches read. box: left, top, right, bottom in pixels of the video."""

    frame: int
    box: tuple[int, int, int, int]
    looked: bool  # False where the patch was not computed: it was skipped, or the answer given before it


def looks_of(
    trace: Any, frames: Sequence[int], spec: ClipSpec, width: int, height: int, view: int = 0
) -> list[Look]:
    """The looks of a clip whose frames stand at `frames` of a video of width x height.

    trace: of the model; one without `corners` gives no looks. view: of the trace, the one from the centre
    crop of the test, which is undone.
    """
    if not hasattr(trace, "corners"):
        return []
    corners = trace.corners[view].float().cpu()  # (T, 2), or (1, 2) where one patch serves the clip
    if len(corners) == 1:
        corners = corners.expand(len(frames), 2)
    order = trace.order.tolist() if hasattr(trace, "order") else range(len(frames))
    looked = trace.looked[view].tolist()
    short = min(width, height)
    scale = short / spec.resize
    left, top = ((spec.resize * side // short - spec.size) / 2 for side in (width, height))
    found = []
    for place, (row, column), ran in zip(order, corners.tolist(), looked, strict=True):
        box = (left + column, top + row, left + column + trace.patch, top + row + trace.patch)
        x0, y0, x1, y1 = (round(edge * scale) for edge in box)
        found.append(Look(frames[place], (max(0, x0), max(0, y0), min(width, x1), min(height, y1)), ran))
    return sorted(found, key=lambda look: look.frame)
