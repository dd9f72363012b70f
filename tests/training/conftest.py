"""What the tests of training share."""

import pytest
import torch

from pipeline.training.batches import FoldData
from tests.training.runs import digit_images


@pytest.fixture(scope="session")
def digits():
    """600 handwritten digits, 8 x 8."""
    return digit_images()


@pytest.fixture
def fold_data(digits):
    rows = torch.arange(600)
    return FoldData(
        images=digits.train.images,
        labels=digits.train.labels,
        train=rows[:450],
        valid=rows[450:],
        classes=10,
        mirror=False,
    )
