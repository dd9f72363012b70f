"""SumBatchNorm2d computes what nn.BatchNorm2d does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from pipeline.models.native_norm import native_norms_problem, use_native_norms
from pipeline.models.norm import SumBatchNorm2d, use_sum_norms


@pytest.fixture
def pair() -> tuple[nn.BatchNorm2d, SumBatchNorm2d]:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(5)
    nn.init.uniform_(plain.weight)
    nn.init.normal_(plain.bias)
    holder = nn.Sequential(copy.deepcopy(plain))
    use_sum_norms(holder)
    changed = holder[0]
    assert isinstance(changed, SumBatchNorm2d)
    return plain, changed


def test_values_gradients_and_running_statistics_agree(
    pair: tuple[nn.BatchNorm2d, SumBatchNorm2d],
) -> None:
    x = torch.randn(8, 5, 6, 7) * 3 + 2
    grad = torch.randn_like(x)
    results = []
    for norm in pair:
        own = x.clone().requires_grad_()
        y = norm(own)
        y.backward(grad)
        results.append((y, own.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()))

    for ours, theirs in zip(*reversed(results), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_evaluation_uses_the_running_statistics(
    pair: tuple[nn.BatchNorm2d, SumBatchNorm2d],
) -> None:
    plain, changed = pair
    x = torch.randn(4, 5, 3, 3)

    assert torch.equal(changed.eval()(x), plain.eval()(x))


def test_low_precision_input_keeps_its_format(
    pair: tuple[nn.BatchNorm2d, SumBatchNorm2d],
) -> None:
    plain, changed = pair
    x = torch.randn(16, 5, 8, 8).bfloat16()

    y = changed(x)

    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), plain(x.float()), rtol=0.02, atol=0.02)


def test_the_weights_file_does_not_change() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    names = list(net.state_dict())

    use_sum_norms(net)

    assert list(net.state_dict()) == names


@pytest.mark.parametrize("use_norms", [use_sum_norms, use_native_norms])
def test_a_gradient_of_the_gradient_is_refused(use_norms: Callable[[nn.Module], None]) -> None:
    """It would lack what passes through the statistics."""
    if use_norms is use_native_norms and native_norms_problem() is not None:
        pytest.skip(f"no native code here: {native_norms_problem()}")
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    use_norms(net)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    grad = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)[0]

    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.square().sum().backward()
