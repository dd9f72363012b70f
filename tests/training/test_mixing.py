"""Mixed images, and what becomes of their labels."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.batches import FoldData, epoch_batches
from pipeline.training.mixing import mixed_images, mixed_labels, random_weights
from pipeline.training.prefetch import prefetched
from pipeline.training.recipes import Recipe

COUNT = 400


@pytest.mark.parametrize("multi_label", [False, True])
def test_targets_say_how_much_of_an_image_is_its_own(multi_label: bool) -> None:
    weights = random_weights(COUNT, 0.3, torch.Generator().manual_seed(0))
    white = torch.full((COUNT, 4, 5, 1), 200, dtype=torch.uint8)
    own, others = torch.zeros(COUNT, dtype=torch.long), torch.ones(COUNT, dtype=torch.long)
    if multi_label:
        own, others = (torch.nn.functional.one_hot(labels, 2).bool() for labels in (own, others))

    seen = mixed_images(white, torch.zeros_like(white), weights)
    targets = mixed_labels(own, others, weights, 2)

    assert torch.allclose(targets.sum(1), torch.ones(COUNT))
    assert torch.allclose(seen.mean((1, 2, 3)) / 200, targets[:, 0], atol=1e-5)
    assert 0.5 <= float(targets[:, 0].min()) < 0.6
    assert abs((targets[:, 0] < 1).float().mean() - 0.3) < 0.1


def test_mixed_batches_are_the_same_from_any_step_on() -> None:
    generator = torch.Generator().manual_seed(0)
    data = FoldData(
        images=torch.randint(0, 256, (96, 8, 8, 3), dtype=torch.uint8, generator=generator),
        labels=torch.arange(96) % 4,
        train=torch.arange(96),
        valid=torch.arange(0),
        classes=4,
        mirror=True,
    )
    recipe = Recipe(epochs=1, batch_size=32, mixup=0.5)

    whole = list(epoch_batches(data, recipe, 32, seed=1))
    rest = list(epoch_batches(data, recipe, 32, seed=1, skip=2))

    assert [images.shape for images, _ in whole] == [(32, 8, 8, 3)] * 3
    assert len(rest) == 1
    assert all(torch.equal(a, b) for a, b in zip(whole[2], rest[0], strict=True))


def test_labels_are_blended_as_their_images_are_and_with_others() -> None:
    shades = 7 * torch.arange(32)
    data = FoldData(
        images=shades.to(torch.uint8)[:, None, None, None].expand(32, 8, 8, 1),
        labels=torch.arange(32),
        train=torch.arange(32),
        valid=torch.arange(0),
        classes=32,
        mirror=True,
    )
    recipe = Recipe(epochs=1, batch_size=16, mixup=1.0)

    for images, targets in epoch_batches(data, recipe, 16, seed=0):
        assert ((targets > 0).sum(1) == 2).all()
        torch.testing.assert_close(images.mean((1, 2, 3)), targets @ shades.float())


def test_prefetched_items_come_in_order_and_errors_where_they_are_used() -> None:
    def items():
        yield from range(3)
        raise ValueError("no more")

    taken: list[int] = []
    with pytest.raises(ValueError, match="no more"):
        taken.extend(prefetched(items()))

    assert taken == [0, 1, 2]
    assert list(prefetched(iter("abc"))) == ["a", "b", "c"]


def test_what_is_left_is_not_fetched() -> None:
    begun = []

    def items():
        for number in range(10):
            begun.append(number)
            yield number

    for item in prefetched(items()):
        if item == 2:
            break

    assert begun == [0, 1, 2, 3]
