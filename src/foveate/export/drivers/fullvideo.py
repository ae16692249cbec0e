"""Full video from its parts: an early part on every frame, a late part on the means of clusters of frames."""

from collections.abc import Callable
from typing import Any

import numpy as np


def answer(run: Callable[..., dict[str, Any]], facts: dict[str, Any], clip: Any) -> Any:
    """Logits (1, classes) of a clip (T, S, S, 3) uint8; what the early part finds in it is kept in memory.

    run(part, values): values with the outputs of a part among them. facts: "decisions" of the card.
    """
    clusters = facts["clusters"]
    if facts["middles"] and len(clip) > clusters:
        clip = clip[(2 * np.arange(clusters) + 1) * len(clip) // (2 * clusters)]
    chunks = [clip[at : at + facts["chunk"]] for at in range(0, len(clip), facts["chunk"])]
    maps = np.concatenate([run("early", {"frames": chunk})["maps"] for chunk in chunks])
    labels = cluster(maps, facts)
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    joined = np.add.reduceat(maps, starts)
    if facts["aggregate"] == "mean":
        joined = joined / np.diff(starts, append=len(maps)).astype(np.float32)[:, None, None, None]
    last = max(0, labels[-1] - facts["lose_last"])
    rows = np.minimum(np.arange(clusters), last)  # where there are fewer, the last stands for the rest
    return run("late", {"maps": joined[None, rows]})["logits"]


def cluster(maps: Any, facts: dict[str, Any]) -> Any:
    """The cluster of each frame (T,), from 0, each the one before or the next. maps: (T, C, h, w)."""
    time, clusters = np.arange(len(maps)), facts["clusters"]
    change = distances(maps > 0, facts) if facts["rule"] != "even" else np.zeros(len(maps) - 1, int)
    if facts["rule"] == "slope":  # cut at the largest; of equal ones at the last
        largest = np.argsort(change, kind="stable")[::-1][: clusters - 1]
        return np.isin(time - 1, largest).cumsum()
    so_far = np.concatenate([[0], change.cumsum()])
    if so_far[-1] == 0:
        return time * clusters // max(len(maps), clusters)
    steps = np.maximum((so_far * clusters + so_far[-1] - 1) // so_far[-1] - 1, 0)
    return time + np.minimum.accumulate(steps - time)  # at most one step a frame


def distances(signs: Any, facts: dict[str, Any]) -> Any:
    """In how many signs (T, C, h, w) each frame differs from the next, (T - 1,)."""
    near = np.count_nonzero(signs[1:] != signs[:-1], axis=(1, 2, 3))
    if facts["lasting"] and len(signs) > 2:  # not those of a single frame
        far = np.count_nonzero(signs[2:] != signs[:-2], axis=(1, 2, 3))
        never = np.iinfo(far.dtype).max
        near = np.minimum(near, np.minimum([never, *far], [*far, never]))
    if facts["floor"] and len(near):  # above the noise: lower medians
        middle = np.sort(near)[(len(near) - 1) // 2]
        spread = np.sort(np.abs(near - middle))[(len(near) - 1) // 2]
        near = np.maximum(near - middle - 2 * spread, 0)
    return near
