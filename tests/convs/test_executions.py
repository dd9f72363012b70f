"""All executions of a convolution give the same numbers and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from pipeline.convs import KernelConv, executions_of, make_conv, set_execution
from tests.convs.cases import LINEAR, convs_with_input


def value_and_gradients(conv: KernelConv, x: Tensor, execution: str) -> list[Tensor]:
    set_execution(conv, execution)
    y = conv(x)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), [x, *conv.parameters()])]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=convs_with_input())
def test_all_executions_agree_in_value_and_in_every_gradient(case):
    conv, x = case
    first, *others = executions_of(conv)
    expected = value_and_gradients(conv, x, first)

    for execution in others:
        torch.testing.assert_close(value_and_gradients(conv, x, execution), expected)


@pytest.mark.parametrize("name", LINEAR)
def test_gradcheck(name):
    torch.manual_seed(0)
    conv = make_conv(
        name, 2, 4, 2, stride=2, padding=1, bias=True, inner_bias="where-possible"
    ).double()
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*conv.named_parameters(), strict=True)

    for execution in executions_of(conv):
        set_execution(conv, execution)

        def run(x: Tensor, *values: Tensor, conv: KernelConv = conv) -> Tensor:
            return torch.func.functional_call(conv, dict(zip(names, values, strict=True)), x)

        assert torch.autograd.gradcheck(run, (x, *parameters))


@pytest.mark.parametrize("name", LINEAR)
def test_executions_agree_under_autocast_and_keep_the_memory_format(name):
    torch.manual_seed(0)
    conv = make_conv(name, 8, 8, 3, padding=1, bias=True, inner_bias="where-possible")
    conv.to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 9, 9).to(memory_format=torch.channels_last).requires_grad_()
    exact = conv(x)

    for execution in executions_of(conv):
        set_execution(conv, execution)
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x)
        y.float().square().sum().backward()
        assert y.dtype == torch.bfloat16
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y.float(), exact, rtol=0, atol=0.03)


def kept_numbers(conv: KernelConv, x: Tensor) -> int:
    """How many numbers a forward pass keeps for backward, each once."""
    sizes: dict[int, int] = {}

    def note(kept: Tensor) -> Tensor:
        sizes[kept.data_ptr()] = kept.numel()
        return kept

    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        conv(x)
    return sum(sizes.values())


@pytest.mark.parametrize("name", ["channel-selection", "separable", "bottleneck"])
@pytest.mark.parametrize("execution", ["folded", "recomputed", "shifted", "factored"])
def test_only_factored_keeps_more_per_image_than_the_input(name, execution):
    conv = make_conv(name, 8, 8, 3, padding=1, bias=True, inner_bias=True, execution=execution)
    x = torch.randn(6, 8, 16, 16, requires_grad=True)

    per_image = (kept_numbers(conv, x) - kept_numbers(conv, x.detach()[:2].requires_grad_())) / 4

    assert (per_image > 8 * 16 * 16) == (execution == "factored")


@pytest.mark.parametrize("execution", ["folded", "factored", "recomputed"])
def test_an_input_without_gradient_and_a_frozen_factor_are_allowed(execution):
    conv = make_conv("bottleneck", 4, 8, 3, padding=1, inner_bias=True, execution=execution)
    conv.core.requires_grad_(False)

    conv(torch.randn(2, 4, 5, 5)).sum().backward()

    assert conv.core.grad is None
    assert conv.reduce.grad is not None


@pytest.mark.parametrize("execution", ["folded", "recomputed"])
def test_a_compiled_convolution_gives_the_same_gradients(execution):
    torch.manual_seed(0)
    conv = make_conv("bottleneck", 4, 8, 3, padding=1, inner_bias=True, execution=execution)
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    compiled = torch.compile(conv, backend="aot_eager")

    expected = torch.autograd.grad(conv(x).square().sum(), [x, *conv.parameters()])
    found = torch.autograd.grad(compiled(x).square().sum(), [x, *conv.parameters()])

    torch.testing.assert_close(found, expected)
