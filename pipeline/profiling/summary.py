"""What each layer of a network takes: shapes, parameters, multiply-accumulates (MACs).

MACs are half of what torch's own flop counter counts. They are told in two conventions:

- `macs`: factored convolutions as the chain of small ones that they stand for, as in the
  published tables;
- `macs_folded`: every convolution with its composed kernel, as it is executed when folded and
  as it is deployed. The counter would also see the composition itself, which happens once per
  step and not per image, so these are counted by hand: output elements · in · k² (or k³).
  Chains with norms inside cannot be folded in training; here they count as chains, too.

Neither holds norms, activations, poolings, interpolation or additions, which are no MACs of
learned weights and which torch's counter does not see. Where they are a cost, it is in memory
traffic: see the profile.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pipeline.convs import KernelConv, executions_of, set_execution
from pipeline.errors import ConfigError
from pipeline.models.compose import compose_kernels
from pipeline.models.registry import example_classes, example_shape, make_model

NOTE = (
    "MACs: torch's flop counter / 2, factored convolutions as their chain; folded: by hand, with "
    "the composed kernel; norms, activations, poolings, interpolation and additions are not counted"
)
_NOT_LISTED = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Dropout3d)


@dataclass(kw_only=True, slots=True)
class Layer:
    """One row of the table; what a module computes itself, without its children.

    Attributes:
        name: dotted path of the module; empty for the network itself.
        kind: the module's class.
        input, output: shapes with the batch, of the first tensor of the first call; empty if the
            module is never called, only its parameters are used.
        parameters: its own; those shared with an earlier layer are not counted again.
        macs, macs_folded: for the whole batch, see the module's docstring.
    """

    name: str
    kind: str
    input: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    parameters: int
    macs: int = 0
    macs_folded: int = 0


@dataclass(kw_only=True, slots=True)
class Summary:
    """The table of one network."""

    model: str
    conv: str
    input: list[int]
    parameters: int
    macs: int
    macs_folded: int
    layers: list[Layer] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain lists and numbers."""
        return asdict(self)


def summarise(model: str, conv: str, batch: int = 1) -> Summary:
    """Count the network `model` with the convolution `conv`, for the input it was published with.

    Nothing is computed: the network lives on torch's meta device.

    Raises:
        ConfigError: a name is unknown, or the batch is empty.
    """
    if batch < 1:
        raise ConfigError(f"batch={batch}: at least 1")
    shape = example_shape(model)
    with torch.device("meta"):
        network = make_model(model, conv, shape[0], example_classes(model), dropout=0.0).eval()
        x = torch.empty(batch, *shape)
    layers = count_layers(network, x)
    return Summary(
        model=model,
        conv=conv,
        input=list(x.shape),
        parameters=sum(layer.parameters for layer in layers),
        macs=sum(layer.macs for layer in layers),
        macs_folded=sum(layer.macs_folded for layer in layers),
        layers=layers,
    )


def count_layers(network: nn.Module, x: Tensor) -> list[Layer]:
    """The rows of `network` run once on `x`, in the order of their first call.

    A module has a row when it has no children, or parameters or MACs of its own.
    """
    recorder = _Recorder(_as_chains(network))
    recorder.run(x)
    return [layer for module, layer in recorder.layers.items() if _is_listed(module, layer)]


def _as_chains(network: nn.Module) -> nn.Module:
    """Let every convolution that has factors run as their chain, the others as the library's."""
    if isinstance(network, KernelConv):
        if "factored" not in executions_of(network):
            return compose_kernels(network)
        set_execution(network, "factored")
    for name, child in network.named_children():
        setattr(network, name, _as_chains(child))
    return network


def _is_listed(module: nn.Module, layer: Layer) -> bool:
    if isinstance(module, _NOT_LISTED):
        return False
    was_called_leaf = bool(layer.output) and not any(True for _ in module.children())
    return was_called_leaf or layer.parameters > 0 or layer.macs > 0


class _Recorder:
    """Runs a network once and notes shapes, and the MACs that each module computes itself."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.layers: dict[nn.Module, Layer] = {}
        self._names = {module: name for name, module in network.named_modules()}
        self._counted_parameters: set[nn.Parameter] = set()
        self._running: list[Layer] = []
        self._counter = FlopCounterMode(display=False)
        self._counted_flops = 0

    def run(self, x: Tensor) -> None:
        """Fill `layers`, in the order of the modules' first calls."""
        hooks = []
        for module in self._names:
            hooks.append(module.register_forward_pre_hook(self._enter))
            hooks.append(module.register_forward_hook(self._leave))
        with self._counter:
            self.network(x)
        for hook in hooks:
            hook.remove()
        for module in [module for module in self._names if module not in self.layers]:
            self.layers[module] = self._new_layer(module)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._credit()
        if module not in self.layers:
            self.layers[module] = self._new_layer(module)
            self.layers[module].input = _shape(inputs)
        self._running.append(self.layers[module])

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._credit()
        layer = self._running.pop()
        layer.output = layer.output or _shape(output)
        if isinstance(module, KernelConv):
            layer.macs_folded += output.numel() * module.in_channels * prod(module.kernel_size)
        else:
            layer.macs_folded = layer.macs

    def _credit(self) -> None:
        """Give what was counted since the last call to the module that was running."""
        total = self._counter.get_total_flops()
        if self._running:
            self._running[-1].macs += (total - self._counted_flops) // 2
        self._counted_flops = total

    def _new_layer(self, module: nn.Module) -> Layer:
        own = set(module.parameters(recurse=False)) - self._counted_parameters
        self._counted_parameters |= own
        return Layer(
            name=self._names[module],
            kind=type(module).__name__,
            parameters=sum(parameter.numel() for parameter in own),
        )


def _shape(values: Any) -> list[int]:
    """The shape of the first tensor among `values`; empty where there is none."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return list(tensors[0].shape) if tensors else []
