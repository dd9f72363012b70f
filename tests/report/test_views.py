"""Accuracy and loss as validation measures them, and differences with their noise."""

import numpy as np
import pytest
import torch

from pipeline.report.views import accuracy_and_loss, paired
from pipeline.training.losses import plain_losses


@pytest.mark.parametrize("several", [False, True])
def test_accuracy_and_loss_are_those_of_training(several):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (200,), generator=generator)
    if several:
        labels = torch.rand(200, 3, generator=generator) < 0.5
    probabilities = logits.sigmoid() if several else logits.softmax(1)
    losses, right = plain_losses(logits, labels)

    accuracy, loss = accuracy_and_loss(labels.numpy(), probabilities.numpy())

    assert accuracy == pytest.approx(right.double().mean().item())
    assert loss == pytest.approx(losses.mean().item())


def test_a_difference_is_told_from_noise():
    clear, unclear = paired([0.02, 0.03, 0.025]), paired([0.02, -0.03, 0.025])

    assert clear["mean"] == pytest.approx(0.025)
    assert clear["noise"] == pytest.approx(2 * np.std([0.02, 0.03, 0.025], ddof=1) / np.sqrt(3))
    assert (clear["verdict"], unclear["verdict"]) == ("better", "within noise")
    assert paired([-0.02, -0.03, -0.025])["verdict"] == "worse"
