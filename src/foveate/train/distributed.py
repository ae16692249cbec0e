"""One model on several processes: what they must say to each other, and nothing more.

Each process holds the whole model and its share of the batch; gradients are added up once per optimizer step.
PyTorch's DistributedDataParallel does this behind a wrapper, which would hide the parts of the model that the
stages of AdaFocus call one by one, hangs when one process has no usable file in its share, and averages over
processes rather than over clips. Adding by hand costs its overlap of sending and computing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from foveate.train.optim import BATCH_NORMS

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one training and which of them this is; alone, every exchange is the identity."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine: the number of its GPU

    @property
    def main(self) -> bool:
        """Whether this process writes the run folder and speaks to the terminal."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The plain values that all processes give, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    @torch.no_grad()
    def sum_gradients(self, params: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all processes; a parameter that no process used keeps none."""
        if self.size == 1:
            return
        used = self.gather([param.grad is not None for param in params])
        learnt = [param for param, flags in zip(params, zip(*used, strict=True), strict=True) if any(flags)]
        for param in learnt:
            if param.grad is None:  # a share without this parameter's branch, or without any clip
                param.grad = torch.zeros_like(param)
        _all_reduce([param.grad for param in learnt if param.grad is not None])

    @torch.no_grad()
    def mean_statistics(self, model: nn.Module) -> None:
        """Average the running statistics of the batch norms, so that all processes hold one model."""
        if self.size == 1:
            return
        norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS) and m.training]
        every = [s for norm in norms for s in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]
        statistics = [statistic for statistic in every if statistic is not None]
        _all_reduce(statistics, 1 / self.size)

    @torch.no_grad()
    def share_state(self, module: nn.Module) -> None:
        """Give all processes the weights and buffers of the first one."""
        if self.size > 1:
            for value in module.state_dict().values():
                whole = value.contiguous()
                dist.broadcast(whole, src=0)
                value.copy_(whole)


ALONE = ProcessGroup()


def _all_reduce(tensors: Sequence[Tensor], factor: float = 1.0) -> None:
    """Replace each tensor by its sum over the processes, times `factor`."""
    if not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message instead of hundreds
    dist.all_reduce(flat)
    flat.mul_(factor)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


@contextmanager
def open_world(timeout_s: float) -> Iterator[ProcessGroup]:
    """The world that `torchrun` describes in the environment, or this process alone.

    Uses NCCL where there is a GPU for the process and Gloo otherwise. A process that waits for another one
    for longer than `timeout_s` seconds ends with an error.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    world = ProcessGroup(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local_rank)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    try:
        yield world
    finally:
        dist.destroy_process_group()
