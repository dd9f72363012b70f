"""The pinned packages fit each other."""

import torch
import torchvision


def test_torchvisions_compiled_operators_match_this_torch():
    """They do not with a CPU-only torch beside the index's torchvision."""
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])

    kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)

    assert kept.tolist() == [1, 2]
