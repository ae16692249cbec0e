"""Whether what AdaFocus saves in multiply-adds is saved in seconds, and which part eats the difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.record import Spread, Table, Value, in_turns, ratio, seconds
from foveate.layers.fold import fold_time
from foveate.layers.patch import crop_patches
from foveate.measure.cost import count_macs
from foveate.models.adafocus.v1 import AdaFocus
from foveate.models.zoo import create_model

NAME = "adafocus_mnv2_r50_128"
REPEATS = 9


@torch.inference_mode()
def run() -> Table:
    """One video of 16 frames of 224 px at batch 1, float32, eager; the networks are untrained."""
    torch.manual_seed(0)
    clip = torch.randn(1, 16, 224, 224, 3).permute(0, 4, 1, 2, 3)
    systems = {
        "full frame": _named(policy="centre", patch=224),
        "AdaFocus": _named(),
        "AdaFocus+": _plus(clip),
    }
    calls: dict[str, Callable[[], object]] = {name: partial(model, clip) for name, model in systems.items()}
    whole = list(calls)
    calls |= {f"of AdaFocus: {name}": part for name, part in _parts(systems["AdaFocus"], clip).items()}
    macs = {name: _macs(systems["AdaFocus"], call) for name, call in calls.items()}
    times = in_turns({name: _timed(call) for name, call in calls.items()}, REPEATS)
    rows: list[dict[str, Value]] = []
    for name in calls:
        row: dict[str, Value] = {"what": name, "gmacs": macs[name] / 1e9}
        row["ms"] = Spread.of([1000 * time for time in times[name]])
        row["macs_saved"] = macs[whole[0]] / macs[name] if name in whole else ""
        row["time_saved"] = ratio(times[whole[0]], times[name]) if name in whole else ""
        row["speed"] = macs[name] / 1e9 / Spread.of(times[name]).median if macs[name] else ""
        rows.append(row)
    about = (
        "One video of 16 frames of 224 pixels at batch 1 in float32, PyTorch without compilation. Full "
        "frame: the same networks, the patch as large as the frame. AdaFocus+: a patch in 8 of 16 frames."
    )
    columns = {
        "what": "what runs",
        "gmacs": "GMACs",
        "ms": "ms",
        "macs_saved": "times fewer MACs",
        "time_saved": "times less time",
        "speed": "GMACs a second",
    }
    return Table(about, columns, rows)


def _named(**fields: object) -> AdaFocus:
    model = create_model(NAME, **fields)
    assert isinstance(model, AdaFocus)
    return model.eval()


def _plus(clip: Tensor) -> AdaFocus:
    """AdaFocus+ whose threshold lies where it looks at half of the frames of the clip."""
    model = _named(skip=True)
    assert model.skip_policy is not None
    wishes = model.skip_policy(model.glance_at(clip).maps, None).logits.squeeze(-1).sigmoid()
    model.config = replace(model.config, skip_threshold=wishes.sort().values[0, 7].item())
    return model


def _parts(model: AdaFocus, clip: Tensor) -> dict[str, Callable[[], object]]:
    """The steps of `AdaFocus.focus`, each on what the step before found."""
    seen = model.glance_at(clip)
    corners, _ = model.choose_place(seen.maps)
    frames, places = fold_time(clip), corners.flatten(0, 1)
    patches = crop_patches(frames, places, model.config.patch)
    local = model.local_features(patches).unflatten(0, corners.shape[:2])
    return {
        "glance network": lambda: model.glance_at(clip),
        "policy": lambda: model.choose_place(seen.maps),
        "cutting the patches": lambda: crop_patches(frames, places, model.config.patch),
        "local network": lambda: model.local_features(patches),
        "classifier": lambda: model.classify(seen.features, local),
    }


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        with torch.inference_mode():
            return seconds(call)

    return timed


def _macs(model: AdaFocus, call: Callable[[], object]) -> int:
    return count_macs(model, call=call).total
