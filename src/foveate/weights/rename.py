"""Key names of an official checkpoint become ours, strictly: nothing missing, left over or misshapen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from foveate.errors import ModelFileError

Table = Sequence[tuple[str, str]]
"""(pattern, replacement) pairs of regular expressions, applied to a key one after another."""


def rename(state: Mapping[str, Tensor], table: Table, subject: str) -> dict[str, Tensor]:
    """The state dict under our names; two keys that become one raise ModelFileError."""
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in table]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        ours = key
        for pattern, replacement in patterns:
            ours = pattern.sub(replacement, ours)
        if ours in renamed:
            raise ModelFileError(subject, f"two entries become '{ours}', the second is '{key}'")
        renamed[ours] = value
    return renamed


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], subject: str) -> None:
    """Copy `state` into the model; a difference of keys or shapes raises ModelFileError with the first five.

    The step counters of batch norm, which old files lack and nothing reads in evaluation, may be absent.
    """
    want = model.state_dict()
    counters = {key for key in want if key.endswith("num_batches_tracked")}
    problems = [f"missing {key}" for key in want if key not in state and key not in counters]
    problems += [f"left over {key}" for key in state if key not in want]
    problems += [
        f"{key} is {list(state[key].shape)}, wanted {list(want[key].shape)}"
        for key in want
        if key in state and state[key].shape != want[key].shape
    ]
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ModelFileError(
            subject, "; ".join(problems[:5]) + more, "is it the right model and class count?"
        )
    model.load_state_dict(dict(state), strict=False)


def mobilenet_blocks(prefix: str, ours: str, table: Table) -> list[tuple[str, str]]:
    """`table` once for each of MobileNetV2's inverted residuals, which both public layouts count from 1."""
    return [
        (rf"^{prefix}{number}\.{theirs}", rf"{ours}{number - 1}.{mine}")
        for number in range(1, 18)
        for theirs, mine in table
    ]
