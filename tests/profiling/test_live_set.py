"""Peak memory by one definition, on cases small enough to follow by hand."""

from __future__ import annotations

import pytest
import torch

from pipeline.profiling.live_set import live_set, resident_bytes, storage_bytes
from pipeline.profiling.measure import compare
from pipeline.profiling.subjects import Candidate
from pipeline.profiling.workloads import make_workload
from pipeline.training.execution import Execution

COUNT = 1000
BYTES = 4 * COUNT
SCALAR = 4
FP32 = Execution(device="cpu", precision="fp32")


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(COUNT, requires_grad=True)


def test_a_forward_pass_leaves_what_backward_needs_and_its_output(x: torch.Tensor) -> None:
    found = live_set(lambda: x.exp().sum(), "cpu")

    assert found.left == BYTES + SCALAR  # exp's result, for its own derivative; the sum
    assert found.peak == BYTES + SCALAR


def test_a_step_peaks_in_backward_and_leaves_nothing(x: torch.Tensor) -> None:
    def step() -> None:
        x.exp().sum().backward()
        x.grad = None

    found = live_set(step, "cpu")

    # exp's result and the gradient computed from it; the sum and the gradient it starts from.
    assert found.peak == 2 * BYTES + 2 * SCALAR
    assert found.left == 0


def test_without_gradients_a_chain_holds_two_tensors_at_a_time(x: torch.Tensor) -> None:
    @torch.no_grad()
    def step() -> torch.Tensor:
        return x.exp().sin().cos()

    found = live_set(step, "cpu")

    assert found.peak == 2 * BYTES
    assert found.left == BYTES


def test_shared_storage_counts_once() -> None:
    whole = torch.zeros(COUNT)

    assert storage_bytes([whole, whole[:10], whole.view(10, -1)]) == BYTES


def test_a_network_at_rest_holds_parameters_buffers_optimiser_state_and_input() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))
    optimizer = torch.optim.SGD(network.parameters(), momentum=0.9)
    inputs = torch.randn(2, 3)
    network(inputs).sum().backward()
    optimizer.step()

    parameters, buffers = 4 * (15 + 5 + 5 + 5), 4 * (5 + 5) + 8

    assert resident_bytes(network) == parameters + buffers
    assert resident_bytes(network, optimizer, inputs) == 2 * parameters + buffers + 4 * 6


def test_recomputing_takes_less_memory_than_keeping() -> None:
    workload = make_workload("resnet14", 4, "cpu")
    names = ("factored", "recomputed")
    candidates = [Candidate(conv="channel-selection", execution=name) for name in names]

    kept, recomputed = compare(workload, candidates, FP32, rounds=1)

    assert kept.footprint is not None
    assert recomputed.footprint is not None
    assert recomputed.footprint.peak_bytes < kept.footprint.peak_bytes
    assert recomputed.footprint.kept_bytes < kept.footprint.kept_bytes
    assert recomputed.footprint.parameters == kept.footprint.parameters == 27_363
