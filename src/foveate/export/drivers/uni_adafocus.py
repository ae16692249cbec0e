"""Uni-AdaFocus from its parts: glance, choose frames and boxes, look at these, answer; stop once sure."""

from collections.abc import Callable
from typing import Any

import numpy as np


def answer(run: Callable[..., dict[str, Any]], facts: dict[str, Any], clip: Any) -> Any:
    """Logits (1, classes) of a clip (N, S, S, 3) uint8.

    run(part, values): values with the outputs of a part among them. facts: "decisions" of the card.
    """
    values = {name: np.zeros((1, width), np.float32) for name, width in facts["states"].items()}
    values = run("glance", values | {"frames": clip[None, facts["glances"]]})
    if facts["exit"] is not None and chance(values["answers"][0, 0]) >= facts["exit"]:
        return values["answers"][:, 0]
    values = run("choose", values)
    frames = choose(values["weights"][0], len(clip), facts["looks"])
    boxes = boxes_at(frames, len(clip), values["boxes"][0])
    for number, step in enumerate(facts["steps"]):
        patches = np.stack([cut(clip[frames[look]], boxes[look], facts) for look in step["looks"]])
        values = run("classify", values | {"local": run("local", {"patches": patches})["local"][None]})
        logits = values["answers"][:, number]
        if step["exit"] is not None and chance(logits[0]) >= step["exit"]:
            break
    return logits


def chance(logits: Any) -> Any:
    """The probability of the best class."""
    return 1 / np.exp(logits - logits.max()).sum()


def choose(weights: Any, candidates: int, count: int) -> Any:
    """`count` of N candidates, rising, at even quantiles of weights (T,), each of a T-th of the clip."""
    edges = np.append(0, weights.cumsum(dtype=float)).astype(np.float32)  # added up and kept as PyTorch does
    edges[-1] = 1
    shares = (np.arange(count, dtype=np.float32) + 0.5) / count
    part = edges[1:-1].searchsorted(shares)  # the first that does not end below the share
    width = np.maximum(edges[part + 1] - edges[part], np.finfo(np.float32).tiny)
    inside = part.astype(np.float32) + (shares - edges[part]) / width
    places, later = (inside * (candidates / len(weights))).astype(int), np.arange(count)
    return np.minimum(np.maximum.accumulate(places - later), candidates - count) + later  # all different


def boxes_at(frames: Any, candidates: int, boxes: Any) -> Any:
    """Boxes (k, 4) of frames (k,), linearly between those (T, 4) of the middles of T parts of the clip."""
    at = (frames + 0.5) * (len(boxes) / candidates) - 0.5  # before the first the first, after the last it
    return np.stack([np.interp(at, np.arange(len(boxes)), numbers) for numbers in boxes.T], 1)


def cut(frame: Any, box: Any, facts: dict[str, Any]) -> Any:
    """The patch (P, P, 3), float32, of a box of a frame (S, S, 3): bilinear, at the middles of P x P cells.

    box: row, column, height, width in [0, 1]: sides from `least` to S, corners from 0 to S less the side.
    """
    around = np.pad(frame.astype(np.float32), ((1, 1), (1, 1), (0, 0)), "edge")  # the border's own levels
    if facts["beyond"] is not None:
        around[[0, -1]] = around[:, [0, -1]] = facts["beyond"]  # or a colour
    sides = facts["least"] + (len(frame) - facts["least"]) * box[2:]
    cells = (np.arange(facts["patch"]) + 0.5) / facts["patch"]
    for corner, side in zip(box[:2] * (len(frame) - sides), sides, strict=True):  # along rows, then columns
        at = corner + side * cells - 0.5  # a pixel's level is that of its middle: pixel 0 is at 0.5
        at = np.clip(at + 1, 0, len(frame) + 1)  # among the pixels with those around
        low = np.minimum(at.astype(int), len(frame))
        share = (at - low).astype(np.float32)[:, None, None]
        around = (around[low] * (1 - share) + around[low + 1] * share).swapaxes(0, 1)
    return around
