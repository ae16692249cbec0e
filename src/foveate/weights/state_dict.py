"""Find the weights in the content of a checkpoint file, wherever a script has put them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from foveate.errors import ModelFileError
from foveate.weights.container import MODULE
from foveate.weights.torch_file import SAVE

# keys of a checkpoint under which the field stores its weights
WEIGHT_KEYS = (
    *("state_dict", "model_state", "model_state_dict", "blobs"),
    *("model", "net", "network", "module", "weights", "params"),
)
WRAPPERS = re.compile(r"^((module|model|ema_model|_orig_mod|net|network)\.)+")


def state_dict_of(content: Mapping[str, Any], path: Path, entry: str | None = None) -> dict[str, Tensor]:
    """The tensors in the content of a checkpoint file: under `entry`, one of the usual keys, or any other.

    ModelFileError where there are none, or where two entries hold weights of the same network, such as those
    of a model and their average, and none is named.
    """
    found = _weights_in(content)
    if entry is not None and entry not in found:
        there = f"there are {', '.join(found)[:80]}" if any(found) else "leave it out"
        raise ModelFileError(path, f"has no weights under '{entry}'", there)
    if not found:
        if any(value == MODULE for value in content.values()):
            raise ModelFileError(path, "holds a whole module object, not its weights", SAVE)
        raise ModelFileError(path, f"holds no tensors, only {', '.join(list(map(str, content))[:5])}")
    usual = [key for key in (*WEIGHT_KEYS[:4], "", *WEIGHT_KEYS[4:]) if key in found]
    key = entry if entry is not None else (usual or [*found])[0]
    same = [other for other in found if entry is None and _same_network(found[other], found[key])]
    if len(same) > 1:
        cause = f"holds weights under {' and '.join(same)}"
        raise ModelFileError(path, cause, f"choose one: --entry {same[-1]}")
    return found[key]


def _weights_in(content: Mapping[str, Any], depth: int = 2) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a checkpoint by the entry that holds them; "" is the top level."""
    found: dict[str, dict[str, Tensor]] = {}
    own = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if own:
        found[""] = own
    for key, value in content.items():
        if isinstance(value, Mapping) and "param_groups" not in value:
            state = {str(name): each for name, each in value.items() if isinstance(each, Tensor)}
            if state:
                found[str(key)] = state
            elif depth > 1 and not found:
                inner = _weights_in(value, depth - 1)
                found |= {f"{key}.{name}".rstrip("."): each for name, each in inner.items()}
    return found


def _same_network(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    keys, others = ({WRAPPERS.sub("", key) for key in state} for state in (one, other))
    return 2 * len(keys & others) > max(len(keys), len(others))
