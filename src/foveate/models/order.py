"""In which order the frames of a clip are read."""

from __future__ import annotations


def coarse_to_fine(frames: int) -> list[int]:
    """The middle frame, the first, the last, then the middles of ever finer halves (AdaFocusV2).

    Each of the early frames tells as much of the whole clip as it can, which helps who stops early.
    """
    order = list(dict.fromkeys([(frames - 1) // 2, 0, frames - 1]))
    edges = sorted(order)
    while len(order) < frames:
        middles = [(a + b) // 2 for a, b in zip(edges[:-1], edges[1:], strict=True) if b - a > 1]
        order += middles
        edges = sorted(edges + middles)
    return order
