"""What is compared: one network in several variants and executions, on the same input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.convs import (
    KernelConv,
    choose_executions,
    executions_of,
    set_execution,
)
from pipeline.convs.executions import NATIVE
from pipeline.models.fuse import fuse

STANDARD_CONV = "subkernel"
AUTO = "auto"
LIBRARY = "library"
CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
_RATE = 1e-3


class Execution(Protocol):
    """Where a step runs and in which number format, as training decides it."""

    @property
    def device(self) -> str:
        """cpu or cuda."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which forward passes run."""
        ...

    def scaler(self) -> torch.amp.GradScaler:
        """The gradient scaler of the number format."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A network with its convolution left open, and the input that it is measured on.

    Args:
        name: as it is called in the results.
        build: makes the network with the convolution of a name.
        shape: of one input, without the batch.
        input_gradient: whether backward goes on to the input, as for a layer within a network.
    """

    name: str
    build: Callable[[str], nn.Module]
    shape: tuple[int, ...]
    batch: int
    input_gradient: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One of the things compared: a variant, how it is executed, and how its tensors lie.

    Where nothing can be chosen (chains with norms inside, a library's own network) the execution
    is called "library".
    """

    conv: str
    execution: str
    compiled: bool = False
    memory_format: str = CHANNELS_LAST

    def place_input(self, x: Tensor, device: str) -> Tensor:
        """`x` on the device, in the memory format."""
        return x.to(device, memory_format=self._format(x.ndim))

    def place_network(self, network: nn.Module, input_ndim: int, device: str) -> nn.Module:
        """`network` on the device, its full kernels in the memory format, in place."""
        network = network.to(device)
        for parameter in network.parameters():
            if parameter.ndim == input_ndim:
                parameter.data = parameter.data.to(memory_format=self._format(input_ndim))
        return network

    def _format(self, ndim: int) -> torch.memory_format:
        if self.memory_format == CONTIGUOUS:
            return torch.contiguous_format
        return {4: torch.channels_last, 5: torch.channels_last_3d}[ndim]

    def __str__(self) -> str:
        words = [self.conv, self.execution]
        words += ["compiled"] if self.compiled else []
        words += [CONTIGUOUS] if self.memory_format == CONTIGUOUS else []
        return " ".join(words)


def candidates(
    workload: Workload,
    convs: Iterable[str],
    *,
    compiled: bool = False,
    memory_format: str = CHANNELS_LAST,
) -> list[Candidate]:
    """Every execution that each variant offers in this network; the first is the standard.

    The standard is the standard convolution as the library executes it, whether `convs` has it
    or not. `compiled` adds each once more under torch.compile.

    Raises:
        ConfigError: a name is unknown, or the network cannot be built with that convolution.
    """
    found = [
        Candidate(conv=conv, execution=execution, memory_format=memory_format)
        for conv in dict.fromkeys([STANDARD_CONV, *convs])
        for execution in _executions(workload, conv)
    ]
    kept = [each for each in found[1:] if each.conv in convs]
    eager = [found[0], *kept]
    return eager + [replace(each, compiled=True) for each in eager if compiled]


def _executions(workload: Workload, conv: str) -> list[str]:
    """The executions worth a row, "auto" last."""
    with torch.device("meta"):
        network = workload.build(conv)
    found: dict[str, None] = {}
    for module in _kernel_convs(network):
        if module.execution != AUTO:  # a conv whose name fixes it
            found[module.execution] = None
            continue
        # A composed kernel is shifted like any other: the standard convolution shows that.
        # Native code fits single layers: the row of "auto" has it where it pays.
        skipped = [*NATIVE, *["shifted"] * (module.variant != STANDARD_CONV)]
        found |= dict.fromkeys(name for name in executions_of(module) if name not in skipped)
    return [*found, AUTO] if len(found) > 1 else list(found) or [LIBRARY]


def _kernel_convs(network: nn.Module) -> Iterator[KernelConv]:
    return (module for module in network.modules() if isinstance(module, KernelConv))


class Subject:
    """A candidate built and ready to run.

    Attributes:
        network: in training mode, not compiled.
        chosen: how many of its convolutions run in which execution.
    """

    def __init__(self, workload: Workload, candidate: Candidate, execution: Execution) -> None:
        torch.manual_seed(0)  # the same weights, input and dropout for equal networks
        self.execution, device = execution, execution.device
        x = torch.randn(workload.batch, *workload.shape)
        self.input = candidate.place_input(x, device).requires_grad_(workload.input_gradient)
        network = workload.build(candidate.conv).train()
        self.network = candidate.place_network(network, x.ndim, device)
        self.chosen = self._choose(candidate.execution)
        self.deployed = candidate.place_network(fuse(self.network), x.ndim, device).eval()
        self._forward: Callable[[Tensor], Tensor] = self.network
        self._deployed_forward: Callable[[Tensor], Tensor] = self.deployed
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=_RATE, momentum=0.9, nesterov=True, fused=True
        )
        self.scaler = self.execution.scaler()

    def compile(self) -> None:
        """From now on run both forms under torch.compile."""
        self._forward = torch.compile(self.network)
        self._deployed_forward = torch.compile(self.deployed)

    def _choose(self, execution: str) -> dict[str, int]:
        if execution == AUTO:
            with self.execution.autocast():
                choose_executions(self.network, self.input)
        elif execution != LIBRARY:
            convs = [m for m in _kernel_convs(self.network) if execution in executions_of(m)]
            if not convs:
                set_execution(self.network, execution)  # it tells why none can
            for module in convs:
                set_execution(module, execution)
        chosen = [module.execution for module in _kernel_convs(self.network)]
        return {name: chosen.count(name) for name in dict.fromkeys(chosen)}

    def forward(self) -> Tensor:
        """The output in training mode."""
        with self.execution.autocast():
            return self._forward(self.input)

    def loss(self, output: Tensor) -> Tensor:
        """Cross-entropy for logits, mean square for anything of more dimensions."""
        if output.ndim != 2:
            return output.square().mean()  # in the output's format: a loss that costs little
        return F.cross_entropy(output.float(), torch.zeros_like(output[:, 0], dtype=torch.long))

    @torch.inference_mode()
    def infer(self) -> Tensor:
        """The output of the fused network."""
        with self.execution.autocast():
            return self._deployed_forward(self.input)
