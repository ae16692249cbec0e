"""What the frozen networks of AdaFocus find in a split, computed once: stages 2 and 3 then cost seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.clips import Split, in_order
from foveate.layers.normalise import to_clip
from foveate.layers.patch import grid_corners
from foveate.models.adafocus import AdaFocus
from foveate.train.focus import loss_of_steps
from foveate.train.objective import loss_function

Where = Callable[[Tensor], tuple[Tensor, Tensor]]
"""maps (B, T, C, h, w) -> grid positions (B, T) and whether the patch is looked at, (B, T)."""


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
    return grid_corners(torch.full(shape[:2], cell), model.config.grid, model.room)


class CachedScene:
    """A batch of the features, as a policy that learns sees it."""

    def __init__(self, features: Features, indices: Tensor, classes: int) -> None:
        self.maps = features.maps[indices].float()
        self.seen = features.seen[indices].float()
        self.target = F.one_hot(features.labels[indices], classes).float()
        self._grid = features.grid[indices]

    def local_at(self, actions: Tensor) -> Tensor:
        place = actions[..., None, None].expand(*actions.shape, 1, self._grid.shape[-1])
        return self._grid.gather(2, place).squeeze(2).float()

    def local_anywhere(self) -> Tensor:
        return self.local_at(torch.randint(0, self._grid.shape[2], self.maps.shape[:2]))


@dataclass(frozen=True)
class FeatureBatch:
    """Places of a split; what the loop hands to the objective."""

    indices: Tensor
    labels: Tensor
    bad: tuple[object, ...] = ()


@dataclass(frozen=True)
class FeatureBatches:
    """Shuffled batches; the order of epoch e is a function of (seed, e)."""

    labels: Tensor
    batch: int
    seed: int

    def __len__(self) -> int:
        return len(self.labels) // self.batch

    def __call__(self, epoch: int, start: int) -> Iterator[FeatureBatch]:
        order = torch.from_numpy(np.random.default_rng((self.seed, epoch)).permutation(len(self.labels)))
        for number in range(start, len(self)):
            indices = order[number * self.batch : (number + 1) * self.batch]
            yield FeatureBatch(indices, self.labels[indices])


@dataclass(frozen=True)
class Tuning:
    """Stage 3 on features: the classifier learns the patches that `where` picks."""

    features: Features
    where: Where
    skip: float = 0.0  # share of patches left out beside those that `where` leaves out

    def __call__(self, model: AdaFocus, batch: FeatureBatch) -> dict[str, Tensor]:
        scene = CachedScene(self.features, batch.indices, model.num_classes)
        with torch.no_grad():
            actions, looked = self.where(scene.maps)
            looked = looked & (torch.rand(looked.shape) >= self.skip)
        local = scene.local_at(actions) * looked.unsqueeze(-1)
        step_logits, _ = model.classify(scene.seen, local)
        return {"loss": loss_of_steps(loss_function("cross_entropy"), step_logits, batch.labels)}
