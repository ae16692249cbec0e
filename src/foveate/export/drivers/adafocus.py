"""AdaFocus from its parts: glance at frames, choose a patch in each, look at it, answer; stop once sure."""

from collections.abc import Callable
from typing import Any

import numpy as np


def answer(run: Callable[..., dict[str, Any]], facts: dict[str, Any], clip: Any) -> Any:
    """Logits (1, classes) of a clip (T, S, S, 3) uint8.

    run(part, values): values with the outputs of a part among them. facts: "decisions" of the card.
    """
    values = {name: np.zeros((1, width), np.float32) for name, width in facts["states"].items()}
    for number, step in enumerate(facts["steps"]):
        values = run("place", run("glance", values | {"frames": clip[None, step["glance"]]}))
        frames = clip[step["local"]]
        corners = np.broadcast_to(values["corners"][0], (len(frames), 2))
        local, looked = np.zeros((1, len(frames), facts["width"]), np.float32), np.ones(len(frames), bool)
        if facts["skips"]:
            values = run("look", values)
            looked = values["looked"][0]
        if looked.any():
            places = zip(frames[looked], corners[looked], strict=True)
            patches = np.stack([cut(frame, corner, facts["patch"]) for frame, corner in places])
            local[0, looked] = run("local", {"patches": patches})["local"]
        values = run("classify", values | {"local": local})
        logits = values["answers"][:, number]
        if step["exit"] is not None and 1 / np.exp(logits - logits.max()).sum() >= step["exit"]:
            break  # the probability of the best class suffices
    return logits


def cut(frame: Any, corner: Any, side: int) -> Any:
    """The patch (P, P, 3), float32, of a frame (S, S, 3) whose upper left corner is (row, column) in pixels.

    Bilinear between pixels.
    """
    (top, left), (down, right) = np.floor(corner).astype(int), (corner % 1).astype(np.float32)
    rows, columns = (np.minimum(np.arange(at, at + side + 1), len(frame) - 1) for at in (top, left))
    block = frame[rows[:, None], columns].astype(np.float32)
    block = block[:-1] * (1 - down) + block[1:] * down
    return block[:, :-1] * (1 - right) + block[:, 1:] * right
