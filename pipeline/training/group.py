"""Several processes that train one fold together, each on its share of every batch (LAUNCH=ddp).

A process that belongs to no group is a group of one: every function here then leaves its argument
as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import ConfigError
from pipeline.models.norm import use_sum_norms


@contextmanager
def process_group(kind: str) -> Iterator[None]:
    """The group that torchrun's environment variables describe; tensors may be of `kind` or cpu."""
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def size() -> int:
    """How many processes train this fold."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def check_batch(batch: int) -> None:
    """Make sure that a batch can be shared out.

    Raises:
        ConfigError: the processes' shares would differ.
    """
    if batch % size():
        raise ConfigError(
            f"a batch of {batch} images cannot be shared by {size()} processes; choose another, "
            f"such as SET='batch_size={max(batch // size(), 1) * size()}'"
        )


def share(rows: Tensor) -> Tensor:
    """This process's part of the rows."""
    return rows.tensor_split(size())[rank()]


def total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if size() == 1:
        return value
    summed = value.clone()
    dist.all_reduce(summed)
    return summed


def mean(value: Tensor | int) -> Tensor | float:
    """The mean over all processes; an int is the same in all of them."""
    return value if isinstance(value, int) else total(value) / size()


def gathered(value: Tensor) -> list[Tensor]:
    """The value of every process by rank; on the CPU, of one shape everywhere."""
    if size() == 1:
        return [value]
    values = [torch.empty_like(value) for _ in range(size())]
    dist.all_gather(values, value)
    return values


def anywhere(flag: bool) -> bool:
    """Whether the flag is raised in any process; the answer is the same in all of them."""
    if size() == 1:
        return flag
    raised = torch.tensor(int(flag))  # on the CPU: no device waits for the answer
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised)


def with_shared_norms(model: nn.Module) -> nn.Module:
    """The model with batch norms that see the whole batch, not only this process's share of it."""
    if size() == 1:
        return model
    if next(model.parameters()).is_cuda:
        # timm's: torch's own leaves out the activations that some of timm's batch norms hold.
        from timm.layers import convert_sync_batchnorm  # slow to import

        return convert_sync_batchnorm(model)  # type: ignore[no-any-return]
    use_sum_norms(model, processes=size())
    return model


def with_shared_gradients(model: nn.Module) -> nn.Module:
    """The model as it is called in training; the backward pass averages over all processes."""
    if size() == 1:
        return model
    return DistributedDataParallel(model, forward_sync_buffers=False)
