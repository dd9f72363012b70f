"""Layer by layer, the counts are those of the published tables."""

import json
import subprocess
import sys
from math import ceil

import pytest
import torch
from torch import nn

from pipeline.convs import make_conv
from pipeline.errors import ConfigError
from pipeline.models import example_classes, example_shape, make_model
from pipeline.models.nntrain import RESNET_WIDTHS
from pipeline.profiling.summary import count_layers, summarise
from pipeline.stages.summary import print_summary


def macs_by_block(summary):
    """Million MACs of each residual block."""
    macs = dict.fromkeys(range(len(RESNET_WIDTHS)), 0)
    for layer in summary.layers:
        if layer.name.startswith("blocks."):
            macs[int(layer.name.split(".")[1])] += layer.macs
    return [round(count / 1e6, 2) for count in macs.values()]


def published_macs(in_channels, out_channels, stride, side):
    """The study's own formula for a residual block, which leaves out some of the shortcut."""
    out_side = ceil(side / stride)
    first = 9 * in_channels * out_channels * side**2
    second = 9 * out_channels**2 * out_side**2
    return first + second + (in_channels * out_channels * out_side**2 if stride == 2 else 0)


def test_resnet_nntrain_in_both_ways_of_counting():
    summary = summarise("resnet-nntrain", "subkernel")
    side, channels, published = 28, 1, []
    for width in RESNET_WIDTHS:
        stride = 1 if channels == 1 else 2
        published.append(published_macs(channels, width, stride, side))
        side, channels = ceil(side / stride), width

    assert summary.parameters == 1_227_900
    assert round(summary.macs / 1e6, 2) == 8.82
    assert macs_by_block(summary) == [0.51, 1.46, 1.46, 1.59, 1.90, 1.90]
    assert [round(macs / 1e6, 1) for macs in published] == [0.5, 1.4, 1.4, 1.5, 1.8, 1.8]
    assert round(sum(published) / 1e6, 1) == 8.4


@pytest.mark.parametrize(("conv", "gigamacs"), [("subkernel", 192.0), ("bottleneck", 16.3)])
def test_vbnet_at_the_published_batch(conv, gigamacs):
    summary = summarise("vbnet", conv, batch=6)

    assert summary.input == [6, 1, 32, 128, 128]
    assert round(summary.macs / 1e9, 1) == gigamacs
    assert round(summary.macs_folded / 1e9, 1) == 192.0


@pytest.mark.parametrize(
    ("conv", "macs"),
    [
        ("subkernel", 9 * 8 * 12 * 20),
        ("channel-selection", 8 * 12 * 63 + 9 * 12 * 20),
        ("channel-selection-linear", 8 * 12 * 63 + 9 * 12 * 20),
        ("separable", 9 * 8 * 20 + 8 * 12 * 20),
        ("bottleneck", 8 * 3 * 63 + 9 * 3 * 3 * 20 + 3 * 12 * 20),
        ("bottleneck2-norm", 8 * 6 * 63 + 9 * 6 * 6 * 20 + 6 * 12 * 20),
    ],
)
def test_a_convolution_by_hand(conv, macs):
    """Images of 7 x 9 pixels, of which stride 2 with padding 1 leaves 4 x 5."""
    layer = make_conv(conv, 8, 12, 3, stride=2, padding=1)

    rows = count_layers(layer, torch.randn(3, 8, 7, 9))

    assert sum(row.macs for row in rows) == 3 * macs
    if not conv.endswith("norm"):
        assert rows[0].macs_folded == 3 * 9 * 8 * 12 * 20
        assert (rows[0].input, rows[0].output) == ([3, 8, 7, 9], [3, 12, 4, 5])


@pytest.mark.parametrize("conv", ["subkernel", "bottleneck-norm", "channel-selection"])
@pytest.mark.parametrize("name", ["resnet14", "vbnet", "resnet18", "test_vit", "test_coatnet"])
def test_rows_add_up_to_the_network(name, conv):
    with torch.device("meta"):
        net = make_model(name, conv, example_shape(name)[0], example_classes(name), 0.0)

    summary = summarise(name, conv)

    assert summary.parameters == sum(p.numel() for p in net.parameters())
    assert summary.parameters == sum(layer.parameters for layer in summary.layers)
    assert summary.macs == sum(layer.macs for layer in summary.layers) > 0


def test_attention_is_counted_where_it_happens():
    """Two products of tokens x tokens x width per block, between its linear layers."""
    summary = summarise("test_vit", "subkernel")
    tokens, width = 101, 64

    attention = next(layer for layer in summary.layers if layer.name == "blocks.0.attn")

    assert attention.macs == 2 * tokens**2 * width


def test_a_shared_layer_has_its_parameters_once_and_its_macs_twice():
    shared = nn.Linear(5, 5, bias=False)
    unused = nn.Linear(5, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    holder = nn.ModuleDict({"used": net, "unused": unused})
    holder.forward = net.forward

    rows = {row.name: row for row in count_layers(holder, torch.randn(1, 5))}

    assert (rows["used.0"].parameters, rows["used.0"].macs) == (25, 50)
    assert (rows["unused"].parameters, rows["unused"].output) == (12, [])


def test_the_table_shows_every_layer_and_the_totals(capsys):
    print_summary("mnist-net", "bottleneck", 2, as_json=False)

    out = capsys.readouterr().out
    summary = summarise("mnist-net", "bottleneck", 2)
    assert all(layer.name in out and layer.kind in out for layer in summary.layers)
    assert f"{summary.parameters:,}" in out
    assert f"{summary.macs:,}" in out
    assert "norms, activations, poolings" in out


def test_the_verb_prints_one_json_object():
    command = [sys.executable, "-m", "pipeline", "summary", "--model", "resnet14"]
    command += ["--conv", "channel-selection", "--json"]

    result = subprocess.run(command, capture_output=True, text=True, check=True)

    printed = json.loads(result.stdout)
    assert printed["parameters"] == 27_363
    assert printed["macs"] < printed["macs_folded"]
    first = {"name": "stem", "kind": "Conv2d", "parameters": 448, "macs": 442_368}
    assert first.items() <= printed["layers"][0].items()


@pytest.mark.parametrize(
    ("model", "conv", "batch", "message"),
    [
        ("resnet15", "subkernel", 1, "MODEL='resnet15' is unknown"),
        ("resnet14", "sub", 1, "CONV='sub' is unknown"),
        ("resnet14", "subkernel", 0, "batch=0"),
    ],
)
def test_what_does_not_exist_is_refused(model, conv, batch, message):
    with pytest.raises(ConfigError, match=message) as refused:
        print_summary(model, conv, batch, as_json=True)
    assert refused.value.exit_code == 2
