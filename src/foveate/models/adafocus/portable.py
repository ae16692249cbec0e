"""A model of the AdaFocus family as graphs of tensors, and what decides between them as plain data.

Five graphs: glance, place (the policy), look (AdaFocus+), local, classify. Cropping patches, leaving patches
out and stopping early are left to export/drivers/adafocus.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from foveate.models.pieces import Piece, Pieces, normalised, some_frames

if TYPE_CHECKING:
    from foveate.models.adafocus.parts import FocusModel
    from foveate.models.adafocus.seen import Glance


@torch.no_grad()
def focus_pieces(model: FocusModel) -> Pieces:
    """See `VideoModel.pieces`.

    A model with exits reads one frame a step, and its policies and its classifier hand a state on, which
    begins as zeros: for all of them that is the same as none. One without exits reads the clip in one step.
    """
    config, exits = model.config, model.exits
    glanced, looked = model.places(config.frames)
    steps: list[dict[str, Any]] = [{"glance": glanced, "local": looked, "exit": None}]
    if exits:
        pairs = zip(glanced, exits, strict=True)
        steps = [{"glance": [place], "local": [place], "exit": limit} for place, limit in pairs]
    count = len(steps[0]["local"])
    frames = some_frames(model.spec, len(steps[0]["glance"])).unsqueeze(0)
    patches = torch.zeros(count, config.patch, config.patch, 3)
    maps, glance = model.glance_at(normalised(frames, model.spec))
    local = torch.zeros(1, count, model.local.channels)

    def glance_at(frames: Tensor) -> Glance:
        return model.glance_at(normalised(frames, model.spec))

    def place(maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        return _with_state(model.choose_place(maps, state), exits)

    def look(maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        return _with_state(model.choose_look(maps, state), exits)

    def classify(glance: Tensor, local: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        if not exits:
            return (model.classify(glance, local)[0][:, -1:],)
        known, state = model.accumulate(glance, local, state)
        assert state is not None
        answers = [model.classifier.answer(known, first)[:, 0] for first in range(len(steps))]
        return torch.stack(answers, 1), state

    def look_closely(patches: Tensor) -> Tensor:
        return model.local_features(normalised(patches, model.spec), count)

    networks: dict[str, Any] = {"glance": model.glance, "local": model.local}
    policy = () if model.policy is None else (model.policy,)
    answering = (model.classifier,) if model.classifier is not None else (model.glance_head, model.local_head)
    found = {"glance": glance, "local": local}
    graphs = {
        "glance": Piece(glance_at, {"frames": frames}, ("maps", "glance"), (networks["glance"],)),
        "place": in_turn(place, {"maps": maps}, ("corners", "place_state"), policy),
        "local": Piece(look_closely, {"patches": patches}, ("local",), (networks["local"],)),
        "classify": in_turn(classify, found, ("answers", "classify_state"), answering),
    }
    if model.skip_policy is not None:
        graphs["look"] = in_turn(look, {"maps": maps}, ("looked", "look_state"), (model.skip_policy,))
    facts = {"patch": config.patch, "width": local.shape[-1], "states": widths_of(graphs)}
    return Pieces(graphs, "adafocus", {**facts, "skips": model.skip_policy is not None, "steps": steps})


def _with_state(found: tuple[Tensor | None, Tensor | None], exits: Any) -> tuple[Tensor, ...]:
    """A decision, with the state after it where another step follows and there is one."""
    return tuple(value for value in (found if exits else found[:1]) if value is not None)


def in_turn(
    run: Callable[..., tuple[Tensor, ...]],
    inputs: dict[str, Tensor],
    names: tuple[str, str],
    modules: tuple[nn.Module, ...],
) -> Piece:
    """A piece that is called at every step, with the state that it returned at the one before, if any.

    names: of its output and its state.
    """
    output, state = names
    found = run(*inputs.values())
    if len(found) == 1:
        return Piece(run, inputs, (output,), modules)
    return Piece(run, {**inputs, state: torch.zeros_like(found[1])}, (output, f"next_{state}"), modules)


def widths_of(graphs: Mapping[str, Piece]) -> dict[str, int]:
    """Of the states that pieces `in_turn` hand on, by name: each is (1, width)."""
    return {
        name: example.shape[1]
        for piece in graphs.values()
        for name, example in piece.inputs.items()
        if name.endswith("_state")
    }
