"""AR-Net from its parts: a glance decides which network sees a frame, or how many frames nobody sees."""

from collections.abc import Callable
from typing import Any

import numpy as np


def answer(run: Callable[..., dict[str, Any]], facts: dict[str, Any], clip: Any) -> Any:
    """Logits (1, classes) of a clip (T, S, S, 3) uint8: the mean of those of all frames that are not skipped.

    run(part, values): values with the outputs of a part among them. facts: "decisions" of the card.
    """
    networks, wait = facts["networks"], 0
    frames_of: dict[str, list[int]] = {name: [] for name in networks}
    values = {name: np.zeros((1, width), np.float32) for name, width in facts["states"].items()}
    logits = []
    for number in range(len(clip)):
        if wait and not facts["remember_skipped"]:
            wait -= 1
            continue
        found = run("decide", values | {"frames": clip[number : number + 1]})
        if wait:  # a skipped frame changes the cell of the LSTM, no more
            values, wait = values | {"cell": found["cell"]}, wait - 1
            continue
        values, action = found, int(found["actions"].argmax())
        if action < len(networks):
            frames_of[networks[action]].append(number)
        elif action == len(networks):
            logits.append(found["logits"])  # what the glance knows suffices
        else:
            wait = facts["skips"][action - len(networks) - 1] - 1
    for name, chosen in frames_of.items():
        if chosen:
            logits.append(run(name, {"frames": clip[chosen]})["logits"])
    return np.concatenate(logits).mean(0, keepdims=True) if logits else np.zeros_like(values["logits"])
