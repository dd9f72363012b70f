"""Mixed images, and what becomes of their labels."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.batches import FoldData, epoch_batches
from pipeline.training.mixing import Mixture, random_boxes, random_mixture
from pipeline.training.prefetch import prefetched
from pipeline.training.recipes import Recipe

SIZE = (20, 30)


def draw(count: int = 400, **changes: float) -> Mixture:
    recipe = Recipe(epochs=1, batch_size=32, **changes)  # type: ignore[arg-type]
    return random_mixture(count, SIZE, recipe, torch.Generator().manual_seed(0))


def test_a_box_is_a_rectangle_of_its_size_cut_off_at_the_border() -> None:
    lengths = torch.full((500,), 6.0)

    masks = random_boxes(lengths, lengths + 2, SIZE, torch.Generator().manual_seed(0))

    assert masks.shape == (500, *SIZE)
    heights, widths = masks.any(2).sum(1), masks.any(1).sum(1)
    assert torch.equal(masks.sum((1, 2)), heights * widths)
    assert (int(heights.max()), int(widths.max())) == (6, 8)
    assert int(heights.min()) >= 2
    assert len(masks.flatten(1).unique(dim=0)) > 100


@pytest.mark.parametrize(("name", "share"), [("cutmix", 0.5), ("mixup", 0.3)])
def test_targets_say_how_much_of_an_image_is_its_own(name: str, share: float) -> None:
    mixture = draw(**{name: share})
    white = torch.full((400, *SIZE, 1), 200, dtype=torch.uint8)
    own, others = torch.zeros(400, dtype=torch.long), torch.ones(400, dtype=torch.long)

    seen = mixture.images(white, torch.zeros_like(white))
    targets = mixture.targets(own, others, 2)

    assert torch.allclose(targets.sum(1), torch.ones(400))
    assert torch.allclose(seen.mean((1, 2, 3)) / 200, targets[:, 0], atol=1e-5)
    mixed = (targets[:, 0] < 1).float().mean()
    assert abs(mixed - share) < 0.1


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
    recipe = Recipe(epochs=1, batch_size=32, cutmix=0.5, mixup=0.2)

    whole = list(epoch_batches(data, recipe, 32, seed=1))
    rest = list(epoch_batches(data, recipe, 32, seed=1, skip=2))

    assert [images.shape for images, _ in whole] == [(32, 8, 8, 3)] * 3
    assert len(rest) == 1
    assert all(torch.equal(a, b) for a, b in zip(whole[2], rest[0], strict=True))


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
