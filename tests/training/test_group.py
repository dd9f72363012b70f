"""What processes that train a fold together make of its network."""

from types import SimpleNamespace

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from pipeline.models.fuse import fuse
from pipeline.training import group


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
def test_shared_norms_of_gpus_compute_what_the_networks_own_do(monkeypatch, norm):
    """Of timm's, which hold an activation, torch's own conversion keeps the norm alone."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4)).eval(), torch.randn(2, 3, 8, 8)
    expected, on_a_gpu = model(x), SimpleNamespace(is_cuda=True)
    monkeypatch.setattr(group, "size", lambda: 2)
    monkeypatch.setattr(model, "parameters", lambda: iter([on_a_gpu]), raising=False)

    shared = group.with_shared_norms(model)

    assert isinstance(shared[1], nn.SyncBatchNorm)
    torch.testing.assert_close(shared(x), expected)
    monkeypatch.undo()
    torch.testing.assert_close(fuse(shared)(x), expected)
