"""What a step asks of the machine: multiply-accumulates and bytes, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

# What these write to, they do not read.
_OVERWRITING = {"aten::copy_", "aten::fill_", "aten::zero_"}


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorWork:
    """One operator's multiply-accumulates, and the bytes that it must read and write."""

    macs: int
    bytes: int


def count_work(step: Callable[[], object]) -> list[OperatorWork]:
    """Run `step` once, forward and backward alike, and count every operator that moves data.

    Operators are counted as the library is asked for them, unfused; one that only makes a view
    moves nothing and is left out.
    """
    counter = _Counter()
    with counter:
        step()
    return counter.work


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: list[OperatorWork] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        read = _tensors((args[1:] if func._schema.name in _OVERWRITING else args, kwargs))
        written = _written(func, args, kwargs, out)
        if not _moves_nothing(func, read, written):
            # An expanded tensor has more elements than memory behind it.
            moved = sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in read + written)
            self.work.append(OperatorWork(macs=_macs(func, args, kwargs, out), bytes=moved))
        return out


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _written(func: Any, args: Any, kwargs: Any, out: Any) -> list[Tensor]:
    """What an operator returns, and what it changes without returning it."""
    returned = _tensors(out)
    known = {tensor.untyped_storage().data_ptr() for tensor in returned}
    given = {each.name: value for each, value in zip(func._schema.arguments, args, strict=False)}
    changed = [
        (given | kwargs).get(each.name)
        for each in func._schema.arguments
        # Fused optimisers would change gradients to unscale them.
        if each.alias_info and each.alias_info.is_write and each.name != "grads"
    ]
    return returned + [t for t in _tensors(changed) if t.untyped_storage().data_ptr() not in known]


def _moves_nothing(func: Any, read: list[Tensor], written: list[Tensor]) -> bool:
    if "empty" in func._schema.name:
        return True
    if func._schema.is_mutable or not written:
        return False
    storages = {tensor.untyped_storage().data_ptr() for tensor in read}
    return all(tensor.untyped_storage().data_ptr() in storages for tensor in written)


def _macs(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """By torch's formulas, but for the gradients of convolutions.

    torch counts the kernel's gradient of a grouped convolution as that of a full one. Each of the
    two gradients, by input and by kernel, takes as many products as the forward pass.
    """
    packet = func.overloadpacket
    if packet is torch.ops.aten.convolution_backward:
        grad, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
        once = conv_flop_count(x.shape, weight.shape, grad.shape, transposed)
        return int(sum(wanted[:2])) * once // 2
    formula = flop_registry.get(_out_of_place(packet))
    return 0 if formula is None else formula(*args, **kwargs, out_val=out) // 2


def _out_of_place(packet: Any) -> Any:
    """torch has formulas for `addmm`, none for `addmm_`."""
    name = packet.__name__
    return getattr(torch.ops.aten, name.removesuffix("_")) if name.endswith("mm_") else packet
