"""AR-Net and full video as graphs of tensors, and what decides between them as plain data."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from foveate.models.pieces import Piece, Pieces, normalised, not_portable, some_frames

if TYPE_CHECKING:
    from foveate.models.arnet import ARNet
    from foveate.models.fullvideo import FullVideo


def resolution_pieces(model: ARNet) -> Pieces:
    """See `ARNet.pieces`; export/drivers/arnet.py calls them."""
    frames, width, glance = some_frames(model.spec, 1), model.config.policy_width, len(model.nets)
    state = torch.zeros(1, width)

    def at(size: int, frames: Tensor) -> Tensor:
        return model.at_size(normalised(frames, model.spec), size)

    def decide(frames: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
        hidden, cell = model.policy.rnn(model.glance_features(at(glance, frames)), (hidden, cell))
        return model.policy.actions(hidden), model.policy_head(hidden), hidden, cell

    def answer(size: int, frames: Tensor) -> Tensor:
        return model.answer_at(size, at(size, frames), frames)

    networks = [f"network{number}" for number in range(glance)]
    outputs = ("actions", "logits", "next_hidden", "next_cell")
    inputs = {"frames": frames, "hidden": state, "cell": state}
    graphs = {"decide": Piece(decide, inputs, outputs, (model.glance, model.policy, model.policy_head))}
    for number, name in enumerate(networks):
        modules = (model.nets[number], model.heads[number])
        graphs[name] = Piece(partial(answer, number), {"frames": frames}, ("logits",), modules)
    facts = {"skips": [*model.config.skips], "remember_skipped": model.config.remember_skipped}
    states = {"hidden": width, "cell": width, "logits": model.num_classes}
    return Pieces(graphs, "arnet", {"networks": networks, "states": states, **facts})


def cluster_pieces(model: FullVideo) -> Pieces:
    """See `FullVideo.pieces`; export/drivers/fullvideo.py calls them."""
    config = model.config
    if config.eval_mode == "cluster" and config.rule == "random":
        raise not_portable(model.name, "it cuts its clusters at random")
    if config.eval_mode == "all" and model.spec.sampling == "all":
        raise not_portable(model.name, "its late part reads every frame of videos of any length")
    clusters = model.spec.frames if config.eval_mode == "all" else config.clusters
    frames = some_frames(model.spec, 1)

    def early(frames: Tensor) -> Tensor:
        return model.early(normalised(frames, model.spec))

    with torch.no_grad():
        maps = early(frames).expand(clusters, -1, -1, -1).unsqueeze(0)  # (1, g, C, h, w)

    def late(maps: Tensor) -> Tensor:
        features = model.late(maps.flatten(0, 1), clusters).unflatten(0, (-1, clusters))
        return model.classify(features).mean(1)

    late_modules = (*model.backbone.stages[config.after :], model.backbone.last, model.head)
    early_modules = tuple(module for module in model.early_modules() if not [*module.children()])
    graphs = {
        "early": Piece(early, {"frames": frames}, ("maps",), early_modules),
        "late": Piece(late, {"maps": maps}, ("logits",), late_modules),
    }
    chosen = config.eval_mode == "cluster"
    facts = {
        "clusters": clusters,
        "chunk": config.chunk,
        "rule": config.rule if chosen else "even",
        "aggregate": config.aggregate if chosen else "mean",
        "lasting": chosen and config.lasting,
        "floor": chosen and config.floor and config.rule == "cumulative",
        "lose_last": int(chosen and config.lose_last),
        "middles": config.eval_mode == "uniform",
    }
    return Pieces(graphs, "fullvideo", facts)
