"""Choose executions by timing them where they will run."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.convs.conv import KernelConv, executions_of, set_execution
from pipeline.convs.executions import EXECUTIONS, NATIVE
from pipeline.convs.memory import Timings, recall, remember
from pipeline.convs.memory_budget import Call, fastest, fit_memory, inner_bytes, saved_bytes
from pipeline.errors import ConfigError

_ROUNDS = 9
_SAMPLE_SECONDS = 0.002
_MOST_CALLS_PER_SAMPLE = 20
# A candidate this much slower at first sight is not timed further.
_HOPELESS = 3.0


def choose_executions(
    module: nn.Module, example_input: Tensor, *, training: bool = True
) -> dict[str, str]:
    """Resolve and set every execution "auto" in `module` by timing the candidates once.

    One forward pass, in evaluation mode so that no statistic changes, shows each convolution's
    input. Equal cases are timed once, in this process and, by the file that
    `pipeline.convs.memory` keeps, on this device. Call it under the autocast of the training.
    Training, the network takes no more memory than with standard convolutions: an execution that
    keeps inner tensors is chosen as far as the smaller number of parameters pays for them.

    Args:
        example_input: as in training: shape, dtype, memory format and device.
        training: whether to time forward and backward, or forward alone.

    Returns:
        Execution per module path, for `apply_executions`.
    """
    convs = {
        path: part
        for path, part in module.named_modules()
        if isinstance(part, KernelConv) and part.execution == "auto"
    }
    calls = _observe(module, list(convs.values()), example_input, training)
    timings = {path: _timings(conv, calls[conv]) for path, conv in convs.items() if conv in calls}
    choices = {path: fastest(timings.get(path, {"folded": 0.0})) for path in convs}
    if training:
        kept = {path: inner_bytes(convs[path], calls[convs[path]]) for path in timings}
        fit_memory(choices, timings, kept, budget=saved_bytes(list(convs.values())))
    apply_executions(module, choices)
    return choices


def apply_executions(module: nn.Module, choices: dict[str, str]) -> None:
    """Set the executions that `choose_executions` found, also in another process.

    Raises:
        ConfigError: a path is not a KernelConv of `module`, or does not offer its execution.
    """
    convs = {path: part for path, part in module.named_modules() if isinstance(part, KernelConv)}
    for path, name in choices.items():
        if path not in convs:
            raise ConfigError(
                f"no convolution {path!r} to execute as {name}; choose from {', '.join(convs)}"
            )
        set_execution(convs[path], name)


def _observe(
    module: nn.Module, convs: list[KernelConv], x: Tensor, training: bool
) -> dict[nn.Module, Call]:
    """The first call of each convolution."""
    calls: dict[nn.Module, Call] = {}

    def note(conv: nn.Module, inputs: tuple[Any, ...]) -> None:
        given: Tensor = inputs[0]
        kind = given.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        layout = tuple(given.shape), given.stride(), given.dtype, given.device
        calls.setdefault(conv, Call(*layout, autocast, given.requires_grad, training))

    hooks = [conv.register_forward_pre_hook(note) for conv in convs]
    try:
        with _evaluating(module), torch.set_grad_enabled(training):
            module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _timings(conv: KernelConv, call: Call) -> Timings:
    """Milliseconds per candidate, from memory if they are known."""
    names = _candidates(conv, call)
    if len(names) == 1:
        return {names[0]: 0.0}
    case = f"{conv.variant}({conv.extra_repr()}) {call} by {', '.join(names)}"
    known = recall(call.device, case)
    if known is None or not {"folded"} <= known.keys() <= set(names):
        known = _time(conv, call, names)
        remember(call.device, case, known)
    return known


def _candidates(conv: KernelConv, call: Call) -> tuple[str, ...]:
    """Of a 1 x 1 kernel all but a dense chain is the same product as folded, with more traffic.

    Where native code does not fit, its execution is folded under another name.
    """
    factors = conv.factors()
    dense_chain = not factors.depthwise and factors.expand is not None
    x = torch.empty_strided(call.shape, call.strides, dtype=call.dtype, device=call.device)
    given = x, conv.geometry, conv.out_channels, call.autocast or call.dtype
    names = [n for n in executions_of(conv) if n not in NATIVE or NATIVE[n].fits(*given)]
    if math.prod(conv.kernel_size) == 1 and not dense_chain:
        return tuple(name for name in names if name == "folded" or name in NATIVE)
    return tuple(names)


def _time(conv: KernelConv, call: Call, names: tuple[str, ...]) -> Timings:
    """Median milliseconds of one call per candidate, from interleaved rounds."""
    runs = {name: _run(conv, call, name) for name in names}
    for run in runs.values():
        run()
    first = {name: _seconds(run, 1, call.device) for name, run in runs.items()}
    best = min(first.values())
    names = tuple(n for n in names if n == "folded" or first[n] < _HOPELESS * best)
    calls = min(_MOST_CALLS_PER_SAMPLE, math.ceil(_SAMPLE_SECONDS / best))
    samples: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_ROUNDS):
        for name in names:
            samples[name].append(_seconds(runs[name], calls, call.device) / calls)
    return {name: round(1000 * statistics.median(samples[name]), 4) for name in names}


def _run(conv: KernelConv, call: Call, name: str) -> Callable[[], Any]:
    """One forward, and backward in training, without touching the parameters' gradients."""
    generator = torch.Generator(call.device).manual_seed(0)
    x = torch.empty_strided(call.shape, call.strides, dtype=call.dtype, device=call.device)
    x.normal_(generator=generator).requires_grad_(call.input_gradient)
    leaves = [p for p in conv.parameters() if p.requires_grad] + [x] * call.input_gradient
    kind = call.device.type
    autocast = partial(torch.autocast, kind, call.autocast, enabled=call.autocast is not None)

    def run() -> None:
        with autocast(), torch.set_grad_enabled(call.training):
            y = EXECUTIONS[name](x, conv.factors())
        if call.training and leaves:
            torch.autograd.grad(y, leaves, torch.ones_like(y))

    return run


def _seconds(run: Callable[[], Any], calls: int, device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
