"""How a model is trained: every number that the loop reads, with its unit.

One flat dataclass serves all systems, so that a paper's recipe is one value of it and the command line, the
run folder and the checkpoint show the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from foveate.config import to_dict
from foveate.errors import UsageError

GroupStyle = Literal["plain", "no_norm_decay", "no_norm_bias_decay", "tsm"]
Loss = Literal["cross_entropy", "soft_cross_entropy", "bce"]
ClassWeights = Literal["none", "balanced"]
SamplerName = Literal["shuffle", "balanced"]
Precision = Literal["fp32", "bf16", "fp16", "auto"]

# What a resumed run may change: nothing here has a part in the weights.
FREE = ("max_bad_fraction", "save_every", "log_every", "tensorboard", "timeout_s")


@dataclass(frozen=True)
class TrainConfig:
    """The defaults fine-tune a pretrained network on one machine."""

    epochs: int = 50  # passes over the training list
    batch: int = 16  # clips of one optimizer step, over all processes and accumulated parts
    accumulate: int = 1  # parts of a batch that a process computes one after the other, to save memory
    seed: int = 0  # of dropout, sampling and the order of the data

    optimizer: Literal["sgd", "adamw"] = "sgd"  # SGD with momentum, or Adam with decoupled decay
    rate: float = 0.01  # highest learning rate, for a batch of `reference_batch` clips
    reference_batch: int | None = 64  # clips; the rate is times batch / reference_batch. None: as it stands
    momentum: float = 0.9  # of SGD
    nesterov: bool = False  # SGD's momentum looks one step ahead
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW: decay of the two running means
    weight_decay: float = 1e-4  # per step, times the rate
    groups: GroupStyle = "plain"  # which parameters learn faster or do not decay; see train/optim.py
    clip_norm: float | None = None  # longest gradient, as the L2 norm over all parameters. None: no limit
    partial_bn: bool = False  # all batch norms but the first keep their statistics and weights
    precise_bn: int = 0  # batches that renew the statistics of batch norms before an evaluation. 0: none

    schedule: Literal["cosine", "step", "constant"] = "cosine"  # of the rate, over all epochs
    schedule_every: Literal["step", "epoch"] = "step"  # how often the rate moves, after the warm-up
    milestones: tuple[float, ...] = ()  # epochs at which a step schedule multiplies the rate by `decay`
    decay: float = 0.1  # factor of a step schedule
    warmup_epochs: float = 0.0  # epochs of linear growth, up to the schedule's own value at its end
    warmup_rate: float = 0.0  # rate at which the warm-up starts, for a batch of `reference_batch` clips

    loss: Loss = "cross_entropy"  # multi-label: bce, or soft_cross_entropy against labels that sum to 1
    label_smoothing: float = 0.0  # share of the target that is spread over all classes
    class_weights: ClassWeights = "none"  # balanced: a class counts in the loss by 1 / its number of videos
    sampler: SamplerName = "shuffle"  # balanced: as many clips of every class in each epoch
    # Of the forward pass; fp16 needs CUDA. auto: fp32 or bf16, with kernels in the usual order or channels
    # last, whatever is fastest on the first batch; a resumed run goes on with what was chosen.
    precision: Precision = "fp32"
    ema: float = 0.0  # decay per step of averaged weights, which are then judged and kept. 0: none

    monitor: str = "top1"  # the measure by which the best weights are chosen; higher is better
    eval_every: int = 1  # epochs from one evaluation to the next; the last epoch is always evaluated
    max_bad_fraction: float = 0.01  # largest share of unreadable files; 2 are let pass unless it is 0
    save_every: int = 500  # steps from one checkpoint to the next; each epoch ends with one as well
    log_every: int = 10  # steps from one line of metrics to the next
    tensorboard: bool = False  # also write curves for TensorBoard into the run folder
    timeout_s: float = 120.0  # seconds that a process waits for another one before it gives up

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "eval_every", "save_every", "log_every"):
            _check(getattr(self, name) >= 1, self, name, "it must be at least 1")
        for name in ("rate", "timeout_s"):
            _check(getattr(self, name) > 0, self, name, "it must be above 0")
        for name in ("weight_decay", "warmup_epochs", "warmup_rate", "seed", "precise_bn"):
            _check(getattr(self, name) >= 0, self, name, "it must not be negative")
        for name in ("momentum", "label_smoothing", "ema"):
            _check(0 <= getattr(self, name) < 1, self, name, "it must lie in [0, 1)")
        _check(0 <= self.max_bad_fraction <= 1, self, "max_bad_fraction", "it must lie in [0, 1]")
        _check(self.reference_batch is None or self.reference_batch > 0, self, "reference_batch", "too small")
        _check(self.clip_norm is None or self.clip_norm > 0, self, "clip_norm", "it must be above 0")
        _check(list(self.milestones) == sorted(self.milestones), self, "milestones", "they must ascend")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} does not divide into {self.accumulate} parts (accumulate)")

    def bad_files_allowed(self, videos: int) -> int:
        """How many of so many videos may be unreadable: the configured share, and two whatever the share.

        Of fewer than eight videos a quarter may be; where the share is 0, none.
        """
        few = min(2, videos // 4) if self.max_bad_fraction else 0
        return max(few, int(self.max_bad_fraction * videos))

    @property
    def scale(self) -> float:
        """What `rate` and `warmup_rate` are multiplied by to suit the batch."""
        return self.batch / self.reference_batch if self.reference_batch else 1.0

    def part(self, processes: int = 1) -> int:
        """Clips that one process computes at once; UsageError if the batch does not divide so."""
        if self.batch % (self.accumulate * processes):
            cause = f"{self.batch} clips do not divide by {processes} processes x {self.accumulate} parts"
            raise UsageError("batch", cause, "choose a multiple")
        return self.batch // (self.accumulate * processes)

    def identity(self) -> dict[str, Any]:
        """Plain data of all fields that have a part in the weights: what a resumed run must repeat."""
        return {name: value for name, value in to_dict(self).items() if name not in FREE}


def _check(holds: bool, config: TrainConfig, name: str, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {getattr(config, name)}; {rule}")
