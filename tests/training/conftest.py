"""What the tests of training share."""

import pytest

from tests.training.runs import digit_images


@pytest.fixture(scope="session")
def digits():
    """600 handwritten digits, 8 x 8."""
    return digit_images()
