"""Everything that changes during a training, in one place, so that it is saved and restored whole.

No state of a random generator is in it: each step seeds its own from its number, and each sample from its
place in the data. So what is saved is enough to repeat the rest of the run to the last bit, on the same
machine with the same versions and number of threads.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.errors import ModelFileError, UsageError
from foveate.layers.order import set_order
from foveate.train.config import TrainConfig
from foveate.train.ema import Ema
from foveate.train.numerics import Numerics
from foveate.train.optim import ParamGroup, freeze_batch_norms, make_groups, make_optimizer
from foveate.weights.rename import load_strictly

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """What an epoch has added up so far, over all processes."""

    samples: int = 0  # clips learnt from
    bad: int = 0  # clips whose file could not be read
    seconds: float = 0.0  # of the first process
    waited: float = 0.0  # seconds of these in which it waited for data
    sums: dict[str, float] = field(default_factory=dict)  # values of the objective, each times its clips

    def add(self, sums: Mapping[str, float], samples: int, bad: int, seconds: float, waited: float) -> None:
        """Count one step."""
        self.samples += samples
        self.bad += bad
        self.seconds += seconds
        self.waited += waited
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """The values of the objective, averaged over the clips."""
        return {name: total / self.samples for name, total in self.sums.items()}

    def speed(self) -> dict[str, float]:
        """Share of the time that was spent waiting for data, and clips a second."""
        return {
            "data_wait_share": self.waited / self.seconds if self.seconds else 0.0,
            "samples_per_s": self.samples / self.seconds if self.seconds else 0.0,
        }


@dataclass
class TrainState:
    """Weights, optimizer, place in the data and the results so far."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # off unless fp16
    ema: Ema | None
    numerics: Numerics | None = None  # None: to be chosen
    epoch: int = 0  # the one under way
    batch: int = 0  # batches of it that are done, in each process
    step: int = 0  # optimizer steps that are done
    best: float | None = None  # highest value of the monitored measure
    scores: dict[str, float] = field(default_factory=dict)  # the latest evaluation
    tally: Tally = field(default_factory=Tally)

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and kept: the averaged one if there is one."""
        return self.ema.model if self.ema else self.model

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values, not copied."""
        return {
            "model": dict(self.model.state_dict()),
            "ema": dict(self.ema.model.state_dict()) if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "numerics": asdict(self.numerics) if self.numerics else None,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "best": self.best,
            "scores": self.scores,
            "tally": asdict(self.tally),
        }

    def restore(self, saved: Mapping[str, Any], path: Path) -> None:
        """Go back to what `to_dict` gave; a state of another model raises ModelFileError with `path`."""
        load_strictly(self.model, saved["model"], str(path))
        if self.ema:
            load_strictly(self.ema.model, saved["ema"], str(path))
        try:
            self.optimizer.load_state_dict(saved["optimizer"])
        except ValueError as error:
            raise ModelFileError(path, f"its optimizer does not fit: {error}") from error
        self.scaler.load_state_dict(saved["scaler"])
        if chosen := saved.get("numerics"):  # none in a run of an earlier version
            self.numerics = Numerics(**chosen)
            set_order(self.model, self.numerics.channels_last)
        self.epoch, self.batch, self.step = saved["epoch"], saved["batch"], saved["step"]
        self.best, self.scores = saved["best"], saved["scores"]
        self.tally = Tally(**saved["tally"])

    def broken(self) -> str:
        """Name of the first weight or statistic that is not finite, or nothing."""
        for name, value in self.model.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                return name
        return ""


def make_state(
    model: nn.Module, config: TrainConfig, groups: Sequence[ParamGroup] | None = None
) -> TrainState:
    """The state before the first step. `groups` default to the style that the configuration names."""
    device = next(model.parameters()).device.type
    if config.precision == "fp16" and device != "cuda":
        raise UsageError("precision", f"fp16 does not train on {device}", "use bf16 or fp32")
    if config.partial_bn:
        freeze_batch_norms(model)
    optimizer = make_optimizer(model, groups or make_groups(model, config.groups), config)
    scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")
    numerics = None if config.precision == "auto" else Numerics(config.precision)
    return TrainState(model, optimizer, scaler, Ema(model, config.ema) if config.ema else None, numerics)


def surroundings() -> dict[str, str]:
    """What, besides the settings, decides on the last bits."""
    return {
        "foveate": version("foveate"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def warn_of_changes(before: Mapping[str, str]) -> None:
    """Say which surroundings are others than at the checkpoint: the run goes on, but not to the same bits."""
    for name, now in surroundings().items():
        if before.get(name) != now:
            log.warning(
                "%s was %s, now %s: the result can differ in the last bits", name, before.get(name), now
            )
