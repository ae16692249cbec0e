"""A model of Uni-AdaFocus as graphs of tensors, and what decides between them as plain data.

Four graphs: glance, choose (both policies), local, classify. Which frames the weights mean, which boxes, what
lies in these and when to stop is left to export/drivers/uni_adafocus.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foveate.layers.frame_choice import glance_places
from foveate.models.adafocus.portable import in_turn, widths_of
from foveate.models.pieces import Piece, Pieces, normalised, some_frames

if TYPE_CHECKING:
    from foveate.models.adafocus.uni import UniModel


@torch.no_grad()
def uni_pieces(model: UniModel) -> Pieces:
    """See `VideoModel.pieces`.

    A model with exits answers after the glances, and then takes a step for each of its other answers; its
    classifier hands what it knows of the looks on, if it does, which begins as zeros: largest activations are
    not below. One without exits looks at all frames in one step.
    """
    config, spec, exits = model.config, model.spec, model.exits
    order = model.order(config.local_frames)
    count = len(order) // max(1, len(exits) - 1)  # looks in a step
    looks = [order[first : first + count] for first in range(0, len(order), count)]
    limits = exits[1:] or [None]
    frames = some_frames(spec, config.glance_frames).unsqueeze(0)
    patches = torch.zeros(count, model.patch, model.patch, 3)

    def glance_at(frames: Tensor) -> tuple[Tensor, ...]:
        glance = model.glance_at(normalised(frames, spec))
        memory = model.remember(glance)
        answers = (model.answer_glance(glance, memory),) if exits else ()
        return (*glance, *memory, *answers)

    def choose(maps: Tensor, glance: Tensor) -> tuple[Tensor, Tensor]:
        return model.temporal_policy(glance), model.spatial_policy(maps)

    def look_closely(patches: Tensor) -> Tensor:
        return model.local_features(normalised(patches, spec), model.seen_together(count), *model.told)

    def classify(memory: Tensor, local: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        known, after = model.accumulate((memory,) if state is None else (memory, state), local)
        if not exits:
            return (model.answer_known(known[:, -1:], known.shape[1] - 1),)
        answers = [model.answer_known(known, first)[:, 0] for first in range(len(looks))]
        return torch.stack(answers, 1), *after[1:]

    maps, glance, memory = glance_at(frames)[:3]
    found = {"memory": memory, "local": look_closely(patches).unsqueeze(0)}
    networks: dict[str, Any] = {"glance": model.glance, "local": model.local}
    glance_heads, look_heads = (
        tuple(model.get_submodule(name) for name in names)
        for names in (model.glance_answers_by, model.looks_answer_by)
    )
    graphs = {
        "glance": Piece(
            glance_at,
            {"frames": frames},
            ("maps", "glance", "memory", *(["answers"] if exits else [])),
            (networks["glance"], *glance_heads),
        ),
        "choose": Piece(
            choose,
            {"maps": maps, "glance": glance},
            ("weights", "boxes"),
            (model.temporal_policy, model.spatial_policy),
        ),
        "local": Piece(look_closely, {"patches": patches}, ("local",), (networks["local"],)),
        "classify": in_turn(classify, found, ("answers", "looks_state"), look_heads),
    }
    border = config.padding == "border"
    decisions = {
        "glances": glance_places(spec.frames, config.glance_frames).tolist(),
        "looks": len(order),
        "patch": model.patch,
        "least": config.least_box * config.size,
        "beyond": None if border else (255 * torch.tensor(spec.mean)).tolist(),  # what normalises to 0
        "states": widths_of(graphs),
        "exit": exits[0] if exits else None,
        "steps": [{"looks": some, "exit": limit} for some, limit in zip(looks, limits, strict=True)],
    }
    return Pieces(graphs, "uni_adafocus", decisions)
