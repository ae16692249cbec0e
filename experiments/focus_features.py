"""What the frozen networks of AdaFocus find in a split, computed once: stages 2 and 3 then cost seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.clips import Split, in_order
from foveate.layers.normalise import to_clip
from foveate.models.adafocus.seen import Glance
from foveate.models.adafocus.v1 import AdaFocus
from foveate.train.recipes.focus_objectives import FeatureBatch


@dataclass(frozen=True)
class Features:
    """maps: (N, T, C, h, w). seen: (N, T, C). grid: half (N, T, n*n, F), a patch at every position."""

    maps: Tensor
    seen: Tensor
    grid: Tensor
    labels: Tensor


@torch.inference_mode()
def features_of(model: AdaFocus, split: Split, path: Path) -> Features:
    """The features of a split; kept in a file."""
    if path.exists():
        return Features(**torch.load(path))
    cells = range(model.config.grid**2)
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in in_order(split, 16):
        clip = to_clip(batch.frames[:, 0], model.spec)
        glance = model.glance_at(clip)
        with torch.autocast("cpu", torch.bfloat16):
            local = [model.look_at(clip, everywhere(model, cell, glance.features.shape)) for cell in cells]
        rows.append((glance.maps, glance.features, torch.stack(local, 2).half()))
    maps, seen, grid = (torch.cat(column) for column in zip(*rows, strict=True))
    content = {"maps": maps, "seen": seen, "grid": grid, "labels": split.labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return Features(**content)


def everywhere(model: AdaFocus, cell: int, shape: torch.Size) -> Tensor:
    """Corners (B, T, 2) of one grid position in every frame."""
    return model.corners_of(torch.full(shape[:2], cell))


class KeptFeatures:
    """Some clips of the features as `FocusFeatures`: patches lie at the positions of the grid."""

    def __init__(self, features: Features, indices: Tensor, model: AdaFocus) -> None:
        self._glance = Glance(features.maps[indices].float(), features.seen[indices].float())
        self._grid = features.grid[indices]
        self._model = model

    def glance(self) -> Glance:
        return self._glance

    def local(self, corners: Tensor, looked: Tensor | None = None) -> Tensor:
        """Of the patches at corners (B, T, 2) of the grid."""
        side, room = self._model.config.grid, self._model.config.room
        row, column = (-(-corners * (side - 1) // room)).unbind(-1)  # rounded up, as corners are down
        place = (row * side + column)[..., None, None]
        place = place.expand(*place.shape[:2], 1, self._grid.shape[-1])
        found = self._grid.gather(2, place).squeeze(2).float()
        return found if looked is None else found * looked.unsqueeze(-1)

    def random_corners(self) -> Tensor:
        shape = self._glance.features.shape[:2]
        return self._model.corners_of(torch.randint(0, self._grid.shape[2], shape))


@dataclass(frozen=True)
class FeatureBatches:
    """Shuffled batches of the features; the order of epoch e is a function of (seed, e)."""

    features: Features
    model: AdaFocus
    batch: int
    seed: int

    def __len__(self) -> int:
        return len(self.features.labels) // self.batch

    def __call__(self, epoch: int, start: int) -> Iterator[FeatureBatch]:
        labels = self.features.labels
        order = torch.from_numpy(np.random.default_rng((self.seed, epoch)).permutation(len(labels)))
        for number in range(start, len(self)):
            indices = order[number * self.batch : (number + 1) * self.batch]
            yield FeatureBatch(KeptFeatures(self.features, indices, self.model), labels[indices])
