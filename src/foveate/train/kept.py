"""Features that frozen networks compute once for every training clip, kept on disk while a stage learns.

A stage whose networks do not learn reads each clip again in every epoch for nothing. Here every video is
decoded `views` times, as training sees it (other frames, crops, flips), what the stage needs of it is kept
as float16, and the epochs read only that. What is there already is not computed again after a stop.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveate.config import to_dict
from foveate.data.dataset import BadFile, Batch, EpochSampler, make_loader
from foveate.errors import UsageError
from foveate.io import atomic_write
from foveate.train.job import TrainLoader
from foveate.train.objective import clip_of

log = logging.getLogger(__name__)

MISSING, THERE, BAD = 0, 1, 2
SAY_EVERY_S = 20.0


@dataclass(frozen=True)
class Keep:
    """What a stage keeps of every clip."""

    name: str  # of the folder; stages that keep the same share it
    compute: Callable[[Any, Any], Mapping[str, Tensor]]  # (model, clip) -> (B, ...) by name
    reads: tuple[str, ...]  # parts of the model that it depends on
    views: int = 1  # of every video, each another draw of the augmentation
    # Called once with the clips of the first videos, before anything is kept; it sets the parts in `sets`.
    begin: Callable[[Any, Iterable[Any]], None] | None = None
    begin_videos: int = 64
    sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.views < 1:
            cause = f"{self.views} draws of each video are to be kept"
            raise UsageError(f"views of {self.name}", cause, "give at least 1")


@dataclass(frozen=True)
class KeptBatch:
    """What is kept of a batch of clips, by name, each (B, ...) float32, on the device of the model."""

    values: Mapping[str, Tensor]
    labels: Tensor  # (B,) class indices, or (B, C) of 0 and 1
    bad: tuple[BadFile, ...] = ()


class KeptFeatures:
    """The batches of a stage from kept features. folder: where they lie; it may be removed at any time."""

    def __init__(self, keep: Keep, model: nn.Module, loader: TrainLoader, folder: Path) -> None:
        if loader.world.size > 1:
            cause = f"keeps features, which {loader.world.size} processes cannot share"
            raise UsageError("torchrun", cause, "train this recipe with one process")
        self.keep, self.model, self.loader, self.folder = keep, model, loader, folder
        self._rows: dict[str, np.ndarray] = {}
        self._causes: dict[str, str] = {}  # of bad files, by index
        self._full = False

    @property
    def _size(self) -> tuple[int, int]:
        return self.keep.views, len(self.loader.data)

    def fill(self) -> None:
        """Compute what is missing; what is there of other videos, weights or settings is thrown away."""
        if self._full:
            return
        self._open()
        state = self._state()
        if (state == MISSING).any():
            with torch.no_grad(), _judging(self.model):
                self._fill(state)
        self._full = True

    def _fill(self, state: np.ndarray) -> None:
        missing, began, said, done = int((state == MISSING).sum()), time.monotonic(), 0.0, 0
        for view in range(self.keep.views):
            for batch in self._batches_from(view, int(np.argmax(state[view] == MISSING)), state[view]):
                self._write(view, batch, state)
                done += len(batch.indices) + len(batch.bad)
                spent = time.monotonic() - began
                if spent - said > SAY_EVERY_S or not said:
                    left = spent / max(done, 1) * (missing - done)
                    log.info(
                        "features of %s: %d of %d clips, %s left, %.0f MB on disk when all are there",
                        self.folder.name, done, missing, _minutes(left), self._megabytes(),
                    )  # fmt: skip
                    said = spent

    def batches(self, epoch: int, start: int) -> Iterator[KeptBatch]:
        """Those of an epoch from number `start` on, in the order in which the clips would have come."""
        self.fill()
        job, part, data = self.loader.job, self.loader.part, self.loader.data
        classes = [entry.labels[0] for entry in data.entries] if job.train.sampler == "balanced" else None
        order = EpochSampler(
            len(data), epoch, job.train.seed, True, start=start * part, classes=classes
        ).order
        view, state = epoch % self.keep.views, self._state()
        device = next(self.model.parameters()).device
        for first in range(0, len(order) - part + 1, part):
            indices = [index for _, index, *_ in order[first : first + part]]
            good = [index for index in indices if state[view, index] == THERE]
            bad = (self._bad_file(index) for index in indices if state[view, index] == BAD)
            values = {
                name: torch.from_numpy(rows[view, good].astype(np.float32)).to(device)
                for name, rows in self._rows.items()
            }
            yield KeptBatch(values, _labels(data, good).to(device), tuple(bad))

    def _bad_file(self, index: int) -> BadFile:
        entry = self.loader.data.entries[index]
        return BadFile(entry.path, self._causes[str(index)], entry.labels, index)

    # ---- the folder

    def _open(self) -> None:
        identity = self._identity()
        mark = self.folder / "kept.json"
        if not mark.exists() or json.loads(mark.read_text()) != identity:
            self._rows = {}
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            with atomic_write(mark) as part:
                part.write_text(json.dumps(identity))
        self._set_parts()
        bad = self.folder / "bad.json"
        self._causes = json.loads(bad.read_text()) if bad.exists() else {}
        for path in self.folder.glob("*.rows.npy"):
            self._rows[path.name.removesuffix(".rows.npy")] = np.load(path, mmap_mode="r+")

    def _set_parts(self) -> None:
        """Run `begin` once; what it made of the parts lies beside the rows that were computed with it."""
        if self.keep.begin is None:
            return
        parts = nn.ModuleDict({str(k): self.model.get_submodule(p) for k, p in enumerate(self.keep.sets)})
        path = self.folder / "begin.pt"
        if not path.exists():
            with torch.no_grad(), _judging(self.model), atomic_write(path) as part:
                self.keep.begin(self.model, self._first_clips())
                torch.save(parts.state_dict(), part)
        parts.load_state_dict(torch.load(path, weights_only=True))

    def _first_clips(self) -> Iterator[Any]:
        """Clips of the first videos of the first epoch, which are of all classes."""
        read = 0
        for batch in self.loader.batches(0, 0):
            if len(batch):
                yield from clip_of(self.model, batch)[0].split(1)  # type: ignore[arg-type]
            read += len(batch)
            if read >= self.keep.begin_videos:
                return

    def _state(self) -> np.ndarray:
        """MISSING, THERE or BAD for every view of every video, (views, N)."""
        path = self.folder / "state.npy"
        if not path.exists():
            with atomic_write(path) as part, part.open("wb") as file:
                np.save(file, np.zeros(self._size, np.uint8))
        loaded: np.ndarray = np.load(path, mmap_mode="r+")
        return loaded

    def _batches_from(self, view: int, first: int, state: np.ndarray) -> Iterable[Batch]:
        if not (state == MISSING).any():
            return ()
        job, data, part = self.loader.job, self.loader.data, self.loader.part
        return make_loader(data, part, view, job.train.seed, False, job.workers, first // part)

    def _write(self, view: int, batch: Batch, state: np.ndarray) -> None:
        if len(batch):
            clips = clip_of(self.model, batch)[0]  # type: ignore[arg-type]
            # one by one, because maps of many frames at once fall out of a processor's cache
            found = [self.keep.compute(self.model, clip) for clip in clips.split(1)]
            for name in found[0]:
                rows = torch.cat([values[name] for values in found])
                self._of(name, rows)[view, batch.indices.numpy()] = rows.half().cpu().numpy()
            state[view, batch.indices.numpy()] = THERE
        if batch.bad:
            self._causes |= {str(file.index): file.cause for file in batch.bad}
            with atomic_write(self.folder / "bad.json") as part:
                part.write_text(json.dumps(self._causes))
            state[view, [file.index for file in batch.bad]] = BAD

    def _of(self, name: str, rows: Tensor) -> np.ndarray:
        if name not in self._rows:
            path = self.folder / f"{name}.rows.npy"
            shape = (*self._size, *rows.shape[1:])
            self._rows[name] = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        return self._rows[name]

    def _megabytes(self) -> float:
        return sum(rows.nbytes for rows in self._rows.values()) / 1e6

    def _identity(self) -> dict[str, Any]:
        """Everything that the rows depend on."""
        job, data, digest = self.loader.job, self.loader.data, hashlib.sha256()
        for entry in data.entries:
            digest.update(f"{entry}\n".encode("utf-8", "replace"))
        left_out = tuple(f"{part}." for part in self.keep.sets)
        for name, value in sorted(self.model.state_dict().items()):
            if name.startswith(tuple(f"{part}." for part in self.keep.reads)) and not name.startswith(
                left_out
            ):
                digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        settings = {"augment": to_dict(job.augment), "spec": to_dict(data.spec), "seed": job.train.seed}
        whole = json.loads(json.dumps(settings, default=str))
        return whole | {"views": self.keep.views, "digest": digest.hexdigest()}


@contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    """All parts of a model in eval mode for a while, 2D kernels in the format in which they are fastest."""
    training = [module for module in model.modules() if module.training]
    kernels = [(each, each.data) for each in model.parameters() if each.dim() == 4]
    model.eval()
    for kernel, data in kernels:
        kernel.data = data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for kernel, data in kernels:
            kernel.data = data
        for module in training:
            module.training = True


def _labels(data: Any, indices: list[int]) -> Tensor:
    if not indices:
        return torch.empty(0, dtype=torch.int64)
    return torch.stack([data.label(index) for index in indices])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
