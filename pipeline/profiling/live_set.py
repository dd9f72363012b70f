"""Peak memory of one step: one definition for the CPU and for CUDA.

Peak memory is the largest number of bytes that tensors hold at one moment of the step: what the
step finds when it begins (parameters, buffers, optimiser state, the input) plus the largest live
set that it builds on top (activations kept for backward, gradients, temporaries).

On CUDA the allocator keeps that peak itself. On the CPU torch's profiler records every allocation
and release of the allocator in order, and the peak of their running sum is the largest live set:
exact, not sampled. Neither sees what a library allocates past torch's allocator.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import profiler

_ALLOCATION = "[memory]"


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveSet:
    """Bytes alive during a step, above what was alive before it.

    Args:
        peak: at the moment when most was alive.
        left: when the step returned. For a forward pass whose output is held, this is what
            autograd keeps for backward, and the output itself.
    """

    peak: int
    left: int


def live_set(step: Callable[[], object], device: str) -> LiveSet:
    """Run `step` once and follow the bytes alive; what it returns is held until the end.

    Run it once before, so that state which is made only once (an optimiser's buffers, a compiled
    function) does not count.
    """
    with _no_garbage_collection():
        return _live_set_on_cuda(step) if device == "cuda" else _live_set_on_cpu(step)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Cycles of an earlier step, released within this one, would lower its sum."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def resident_bytes(model: nn.Module, *others: Tensor | torch.optim.Optimizer) -> int:
    """Bytes of parameters, buffers, optimiser state and other tensors; shared storage once."""
    tensors = [*model.parameters(), *model.buffers()]
    for other in others:
        tensors += _state_of(other) if isinstance(other, torch.optim.Optimizer) else [other]
    return storage_bytes(tensors)


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages behind `tensors`."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _state_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    values = itertools.chain.from_iterable(state.values() for state in optimizer.state.values())
    return [value for value in values if isinstance(value, Tensor)]


def _live_set_on_cpu(step: Callable[[], object]) -> LiveSet:
    with profiler.profile(use_cpu=True, profile_memory=True) as recorded:
        result = step()
    results = recorded.kineto_results
    assert results is not None  # it is None only before the block has ended
    changes = [
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == _ALLOCATION and event.device_type() == torch.profiler.DeviceType.CPU
    ]
    changes.sort(key=lambda change: change[0])
    sums = list(itertools.accumulate((size for _, size in changes), initial=0))
    del result
    return LiveSet(peak=max(sums), left=sums[-1])


def _live_set_on_cuda(step: Callable[[], object]) -> LiveSet:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = step()
    torch.cuda.synchronize()
    left = torch.cuda.memory_allocated() - before
    del result
    return LiveSet(peak=torch.cuda.max_memory_allocated() - before, left=left)
