"""Which parameters learn, how fast, and how the rate moves over the epochs.

A recipe differs from plain SGD in two ways that matter for the published numbers: factors on the rate and
the weight decay of some kinds of parameters (TSM's classifier learns five times as fast, SlowFast's batch
norms do not decay), and the course of the rate. The first is a table of factors here, the second a pure
function of the epoch, so that nothing of it has to be saved and restored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from foveate.config import nearest
from foveate.errors import UsageError
from foveate.train.config import GroupStyle, TrainConfig

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NORMS = (*BATCH_NORMS, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share factors: AdaFocus gives one for each part that it trains."""

    name: str
    params: tuple[nn.Parameter, ...]
    rate: float = 1.0  # times the scheduled rate
    decay: float = 1.0  # times the weight decay


# (rate, decay) factors of a kind of parameter; a kind that is not named has (1, 1).
STYLES: dict[GroupStyle, dict[str, tuple[float, float]]] = {
    "plain": {},
    "no_norm_decay": {"norm": (1, 0)},  # SlowFast
    "no_norm_bias_decay": {"norm": (1, 0), "bias": (1, 0), "head bias": (1, 0)},  # usual with AdamW
    "tsm": {
        "norm": (1, 0),
        "bias": (2, 0),
        "head weight": (5, 1),
        "head bias": (10, 0),
        "flow weight": (5, 1),
    },
}


def make_groups(
    model: nn.Module, style: GroupStyle = "plain", head: nn.Module | None = None
) -> tuple[ParamGroup, ...]:
    """The learning parameters of a model by kind: weight, bias, norm, head weight, head bias, flow weight.

    The last is that of the first convolution of a model of optical flow.
    `head` is the classifier, `model.head` if not given. Frozen parameters are left out, empty groups too.
    """
    head = head or getattr(model, "head", None)
    kinds: dict[str, list[nn.Parameter]] = {}
    flow = first_of_flow(model)
    for param, kind in _kinds(model, set(head.parameters()) if head else set()):
        kinds.setdefault("flow weight" if param is flow else kind, []).append(param)
    factors = STYLES[style]
    return tuple(ParamGroup(kind, tuple(of), *factors.get(kind, (1, 1))) for kind, of in kinds.items())


def first_of_flow(model: nn.Module) -> torch.Tensor | None:
    """The kernel by which a model reads optical flow; None for a model of RGB."""
    spec = getattr(model, "spec", None)
    if spec is None or spec.modality != "flow":
        return None
    return next(module.weight for module in model.modules() if isinstance(module, nn.Conv2d))


def learn_only(model: nn.Module, *parts: tuple[nn.Module, float]) -> list[ParamGroup]:
    """Freeze everything but `parts`, each (module, factor on the learning rate). Returns their groups."""
    model.requires_grad_(False)
    groups = []
    for number, (part, rate) in enumerate(parts):
        part.requires_grad_(True)
        groups.append(ParamGroup(f"part {number}", tuple(part.parameters()), rate))
    return groups


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Stop the named parts from learning, norms with their statistics included (see `learn_mode`).

    patterns: shell patterns of the names of parts or parameters, such as `backbone`, which means everything
    below it, or `*.bn*`. UsageError for one that fits nothing, with the nearest names.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        fitting = [n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*")]
        if not fitting:
            parts = [name for name, _ in model.named_modules() if name]
            raise UsageError(
                f"--freeze {pattern}",
                "fits no part or parameter",
                nearest(
                    pattern, parts, f"the parts are {', '.join(name for name, _ in model.named_children())}"
                ),
            )
        for name in fitting:
            model.get_parameter(name).requires_grad_(False)


def check_group_rates(groups: Sequence[ParamGroup], config: TrainConfig) -> list[str]:
    """A line for each group that would learn at a rate that no network of this kind survives."""
    most = {"adamw": 0.02, "sgd": 2.0}[config.optimizer]
    rates = {group.name: config.rate * config.scale * group.rate for group in groups}
    return [
        f"{name} learns at a rate of {rate:.3g}, {factor:g} times that of the run: too fast for "
        f"{config.optimizer} (lower the factor or the rate)"
        for (name, rate), factor in zip(rates.items(), (group.rate for group in groups), strict=True)
        if rate > most and factor > 1
    ]


def _kinds(model: nn.Module, head: set[nn.Parameter]) -> Iterator[tuple[nn.Parameter, str]]:
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, param in module.named_parameters(recurse=False):
            if not param.requires_grad or param in seen:
                continue
            seen.add(param)
            kind = "bias" if name.startswith("bias") else "weight"  # a GRU has bias_ih_l0
            if isinstance(module, NORMS):
                yield param, "norm"
            else:
                yield param, f"head {kind}" if param in head else kind


def make_optimizer(
    model: nn.Module, groups: Sequence[ParamGroup], config: TrainConfig
) -> torch.optim.Optimizer:
    """SGD or AdamW over `groups`; ValueError if a learning parameter of the model is in none, or in two."""
    listed = [param for group in groups for param in group.params]
    if len(set(listed)) != len(listed):
        raise ValueError("a parameter stands in two groups")
    for name, param in model.named_parameters():
        if param.requires_grad and param not in set(listed):
            raise ValueError(f"parameter {name} learns but stands in no group; freeze it or add it")
    options = [
        {
            "params": list(group.params),
            "name": group.name,
            "scale": group.rate,
            "weight_decay": group.decay * config.weight_decay,
        }
        for group in groups
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(options, lr=config.rate, betas=config.betas)
    return torch.optim.SGD(options, lr=config.rate, momentum=config.momentum, nesterov=config.nesterov)


def rate_at(config: TrainConfig, epoch: float) -> float:
    """The learning rate at a fractional epoch, counted from 0, for the batch of the configuration.

    The warm-up is a line that meets the schedule without a jump (SlowFast). With `schedule_every` "epoch"
    the rate stays for a whole epoch (AdaFocus, bLVNet-TAM), with "step" it moves at every step (SlowFast).
    """
    if epoch < config.warmup_epochs:
        target = _scheduled(config, config.warmup_epochs)
        rate = config.warmup_rate + (target - config.warmup_rate) * epoch / config.warmup_epochs
    else:
        rate = _scheduled(config, math.floor(epoch) if config.schedule_every == "epoch" else epoch)
    return config.scale * rate


def _scheduled(config: TrainConfig, epoch: float) -> float:
    if config.schedule == "cosine":
        return config.rate * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    if config.schedule == "step":
        return config.rate * config.decay ** sum(epoch >= milestone for milestone in config.milestones)
    return config.rate


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def freeze_batch_norms(model: nn.Module) -> None:
    """Partial batch norm (TSN): all but the first keep the statistics and the weights that they came with.

    Only gradients are switched off here; `learn_mode` then holds the frozen ones in eval mode.
    """
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    for norm in norms[1:]:
        norm.requires_grad_(False)


def learn_mode(model: nn.Module) -> None:
    """Train mode for what learns; a part all of whose parameters are frozen is put in eval mode.

    So freezing a part with `requires_grad_(False)` is enough to stop its dropout and its running statistics.
    """
    model.train()
    for module in model.modules():
        params = list(module.parameters())
        if params and not any(param.requires_grad for param in params):
            module.eval()
