"""Multiply-accumulates and bytes per operator, and the roofline made of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from pipeline.profiling.clock import Clock
from pipeline.profiling.roofline import Roofline, measure_roofline
from pipeline.profiling.work import OperatorWork, count_work


def macs(step: Callable[[], object]) -> int:
    return sum(each.macs for each in count_work(step))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolution_takes_as_many_products_forward_as_for_each_gradient(groups: int) -> None:
    x = torch.randn(2, 8, 10, 10)
    weight = torch.randn(8, 8 // groups, 3, 3, requires_grad=True)
    once = 2 * 8 * 10 * 10 * (8 // groups) * 9

    def step() -> None:
        F.conv2d(x, weight, padding=1, groups=groups).sum().backward()

    assert macs(step) == 2 * once
    x.requires_grad_()
    assert macs(step) == 3 * once


def test_a_transposed_convolution_takes_its_products_per_input_pixel() -> None:
    x = torch.randn(1, 4, 5, 5, 5)
    weight = torch.randn(4, 3, 2, 2, 2)

    assert macs(lambda: F.conv_transpose3d(x, weight, stride=2)) == 5**3 * 4 * 3 * 2**3


def test_products_count_in_place_too() -> None:
    a, b, c = torch.randn(3, 4), torch.randn(4, 5), torch.zeros(3, 5)

    assert macs(lambda: a @ b) == 60
    assert macs(lambda: torch.addmm(c, a, b)) == 60
    assert macs(lambda: c.addmm_(a, b)) == 60


def test_an_operator_reads_and_writes_its_tensors_and_a_view_moves_nothing() -> None:
    x = torch.randn(10, 20)

    assert count_work(x.exp) == [OperatorWork(macs=0, bytes=2 * 800)]
    assert count_work(lambda: x.view(200)[3:].unsqueeze(0)) == []
    assert count_work(lambda: torch.empty(1000)) == []
    row = torch.randn(20)
    (added,) = count_work(lambda: row.expand(10, 20) + x)
    assert added.bytes == 80 + 800 + 800


def test_what_is_changed_in_place_is_read_only_where_it_has_to_be() -> None:
    x, y = torch.zeros(1000), torch.ones(1000)

    def moved(step: Callable[[], object]) -> int:
        return sum(each.bytes for each in count_work(step)) // x.nbytes

    assert moved(lambda: x.add_(y)) == 3
    assert moved(lambda: x.copy_(y)) == 2
    assert moved(x.zero_) == 1


def test_an_optimisers_step_writes_weights_and_momenta() -> None:
    weight = torch.ones(1000, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
    weight.grad = torch.ones(1000)
    optimizer.step()

    moved = sum(each.bytes for each in count_work(optimizer.step))

    assert moved // weight.nbytes == 5


def test_each_operator_takes_the_longer_of_its_products_and_its_bytes() -> None:
    roofline = Roofline(
        precision="fp32", macs_per_second=100, fp32_macs_per_second=100, bytes_per_second=10
    )
    work = [OperatorWork(macs=200, bytes=10), OperatorWork(macs=10, bytes=30)]

    assert roofline.seconds(work) == 2 + 3


def test_the_machine_has_rates() -> None:
    roofline = measure_roofline(Clock("cpu"), "bf16")

    assert roofline.precision == "bf16"
    assert roofline.macs_per_second > 0
    assert roofline.fp32_macs_per_second > 0
    assert roofline.bytes_per_second > 0
