"""Small convolutions: sizes as published, and costs of every execution beside the standard."""

import pytest
import torch

from pipeline.models.vbnet import GROUPS
from pipeline.studies.bottleneck import build_vbnet
from pipeline.studies.bottleneck_report import bottleneck_answer
from tests.studies.measuring import (
    assert_explained_and_drawn,
    assert_met_exactly,
    assert_published_figures_are_measured,
    figures,
    measured,
)

COSTS = ("step", "peak", "inference", "inference_peak")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("bottleneck"), "bottleneck")


def test_parameters_are_those_published(results):
    assert_met_exactly("bottleneck", results)


@pytest.mark.parametrize(
    ("variant", "gmacs"),
    [
        ("vbnet/subkernel", 191.78),
        ("vbnet/bottleneck", 16.05),
        ("conv-layer3d/subkernel", 2.75),
        ("conv-layer3d/bottleneck2-norm", 1.56),
    ],
)
def test_multiply_accumulates_of_a_batch_of_six_are_near_those_of_the_published_counter(
    results, variant, gmacs
):
    assert figures(results, "size", variant)["gmacs"] == pytest.approx(gmacs, rel=0.035)


@pytest.mark.parametrize(
    ("part", "executions"),
    [
        ("vbnet-step", ("factored", "recomputed", "folded", "auto")),
        ("vbnet-published", ("factored", "recomputed", "folded", "auto")),
    ],
)
def test_the_chain_is_measured_in_both_protocols(results, part, executions):
    found = figures(results, part, "bottleneck")

    for execution in executions:
        for cost in COSTS:
            assert found[f"{execution}_{cost}_ratio"] > 0
    assert found["standard_step_s"] > 0
    assert found["standard_peak_MB"] > found["standard_inference_peak_MB"] > 0


def test_recomputing_keeps_less_than_the_published_chain(results):
    for part, variant in (("vbnet-step", "bottleneck"), ("layer", "separable")):
        found = figures(results, part, variant)
        assert found["recomputed_peak_ratio"] < found["factored_peak_ratio"]


def test_both_norms_are_measured_and_no_norm_of_the_other_kind_is_left(results):
    assert figures(results, "norms", "bottleneck")["bottleneck_group_step_ratio"] > 0

    network = build_vbnet("bottleneck/group")
    kinds = {type(module).__name__ for module in network.modules()}
    groups = {m.num_groups for m in network.modules() if isinstance(m, torch.nn.GroupNorm)}
    assert "BatchNorm3d" not in kinds
    assert groups == {GROUPS}


def test_norms_have_equally_many_parameters_and_start_from_the_same_weights():
    networks = []
    for norm in ("batch", "group"):
        torch.manual_seed(0)
        networks.append(build_vbnet(f"subkernel/{norm}"))
    batch, group = (dict(network.named_parameters()) for network in networks)

    assert batch.keys() == group.keys()
    assert all(torch.equal(batch[name], group[name]) for name in batch)


def test_words_plots_and_published_figures(results):
    assert_explained_and_drawn("bottleneck", results, {"costs.png"})
    assert_published_figures_are_measured("bottleneck", results)


def test_the_answer_names_what_is_fastest_and_lightest(results):
    answer = bottleneck_answer(results)
    found = figures(results, "vbnet-step", "bottleneck")

    for cost, words in (("step", "The fastest is"), ("peak", "The lightest is")):
        ratios = {name: v for name, v in found.items() if name.endswith(f"_{cost}_ratio")}
        ratios = {name: v for name, v in ratios.items() if "inference" not in name}
        best = min(ratios, key=ratios.__getitem__).split("_")[0]
        assert f"{words} `{best}`" in answer
    assert bottleneck_answer([]) == ""
