"""One model on several processes: what they must say to each other, and nothing more.

Each process holds the whole model and its share of the batch; gradients are added up once per optimizer step.
PyTorch's DistributedDataParallel does this behind a wrapper, which would hide the parts of the model that the
stages of AdaFocus call one by one, hangs when one process has no usable file in its share, and averages over
processes rather than over clips. Adding by hand costs its overlap of sending and computing.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from foveate.data.workers import FILE_TIMEOUT_S
from foveate.train.optim import BATCH_NORMS
from foveate.train.stop import LostProcess

T = TypeVar("T")
# What lost another one waits, so that the other ends first, by its own cause; torchrun then ends this one.
LOST_S = 20.0


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one training and which of them this is; alone, every exchange is the identity."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine: the number of its GPU
    timeout_s: float = math.inf  # how long one waits for another

    @property
    def main(self) -> bool:
        """Whether this process writes the run folder and speaks to the terminal."""
        return self.rank == 0

    @property
    def file_timeout_s(self) -> float:
        """How long a process may take to read a file: not so long that the others give up waiting for it."""
        return min(FILE_TIMEOUT_S, self.timeout_s / 2)

    def gather(self, value: T) -> list[T]:
        """The plain values that all processes give, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        with _others():
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
                with _others():
                    dist.broadcast(whole, src=0)
                value.copy_(whole)


ALONE = ProcessGroup()


def _all_reduce(tensors: Sequence[Tensor], factor: float = 1.0) -> None:
    """Replace each tensor by its sum over the processes, times `factor`."""
    if not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message instead of hundreds
    with _others():
        dist.all_reduce(flat)
    flat.mul_(factor)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


@contextmanager
def _others() -> Iterator[None]:
    """LostProcess where another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        how = re.sub(r"\[/\S+\] |\. This is typically.*", "", str(error).partition("\n")[0])
        raise LostProcess("training", f"another process was lost: {how}", "continue with --resume") from error


@contextmanager
def open_world(timeout_s: float, device: str = "cpu") -> Iterator[ProcessGroup]:
    """The world that `torchrun` describes in the environment, or this process alone.

    Uses NCCL on GPUs, of which each process has one, and Gloo on CPUs. A process that waits for another one
    for longer than `timeout_s` seconds raises LostProcess.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    world = ProcessGroup(rank, size, local_rank, timeout_s)
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(local_rank)
    try:
        with _others():
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=timeout_s))
        yield world
    except LostProcess:
        time.sleep(LOST_S)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
