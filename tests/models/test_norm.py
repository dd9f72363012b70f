"""SumBatchNorm2d computes what nn.BatchNorm2d does."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

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


def test_processes_share_the_statistics_of_norms_that_hold_an_activation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two threads stand for two processes; timm's efficient networks have such norms alone."""
    plain, x, shares = BatchNormAct2d(3), torch.randn(4, 3, 2, 2), dict[int, Tensor]()
    expected = plain(x)
    both = threading.Barrier(2)

    def all_reduce(values: Tensor) -> None:
        shares[threading.get_ident()] = values.clone()
        both.wait(10)
        values.copy_(torch.stack(list(shares.values())).sum(0))
        both.wait(10)

    def train(share: Tensor) -> tuple[Tensor, Tensor]:
        holder = nn.Sequential(BatchNormAct2d(3))
        use_sum_norms(holder, processes=2)
        both.wait(10)  # else one thread could do the work of both
        return holder(share), holder.state_dict()["0.running_var"]

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    with ThreadPoolExecutor(2) as pool:
        parts, variances = zip(*pool.map(train, x.split(2)), strict=True)

    torch.testing.assert_close(torch.cat(parts), expected)
    for variance in variances:
        torch.testing.assert_close(variance, plain.running_var)


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
