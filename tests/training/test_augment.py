"""The one gather that selects, shifts, reflects and mirrors a batch."""

import numpy as np
import torch

from pipeline.training.augment import Views, fixed_view, random_views, shrink, take

CPU = torch.device("cpu")


def images(count=6, height=5, width=7):
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8)


def test_the_plain_view_is_the_image():
    x = images()
    index = torch.tensor([4, 0, 4])

    assert torch.equal(take(x, index, fixed_view(3, 0, 0, False, CPU)), x[index])


def test_shift_reflects_like_numpy_and_mirror_flips_columns():
    x = images(count=1)
    padded = np.pad(x[0].numpy(), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    for down in (-2, -1, 0, 1, 2):
        for right in (-2, 0, 2):
            expected = padded[2 - down : 7 - down, 2 - right : 9 - right]
            seen = take(x, torch.tensor([0]), fixed_view(1, down, right, False, CPU))
            mirrored = take(x, torch.tensor([0]), fixed_view(1, down, right, True, CPU))
            np.testing.assert_array_equal(seen[0].numpy(), expected)
            np.testing.assert_array_equal(mirrored[0].numpy(), expected[:, ::-1])


def test_every_image_draws_its_own_view():
    views = random_views(500, 2, True, torch.Generator().manual_seed(0), CPU)

    assert set(views.down.tolist()) == set(views.right.tolist()) == {-2, -1, 0, 1, 2}
    assert 0.4 < views.mirrored.float().mean() < 0.6
    assert not torch.equal(views.down, views.right)


def test_no_mirror_where_it_changes_the_label():
    views = random_views(100, 1, False, torch.Generator().manual_seed(0), CPU)

    assert not views.mirrored.any()


def test_a_batch_may_mix_views():
    x = images(count=2)
    views = Views(
        down=torch.tensor([0, 1]), right=torch.tensor([0, 0]), mirrored=torch.tensor([True, False])
    )

    seen = take(x, torch.tensor([0, 1]), views)

    assert torch.equal(seen[0], x[0].flip(1))
    assert torch.equal(seen[1, 1:], x[1, :-1])


def test_shrinking_keeps_the_picture_and_its_aspect():
    x = torch.full((2, 20, 40, 3), 7, dtype=torch.uint8)
    x[:, :, 20:] = 200

    small = shrink(x, 16)

    assert small.shape == (2, 16, 32, 3)
    assert small[:, :, :14].sub(7).abs().max() < 0.01
    assert small[:, :, 18:].sub(200).abs().max() < 0.01
    assert shrink(x, 20) is x
    turned = shrink(x.transpose(1, 2), 16)
    torch.testing.assert_close(turned, small.transpose(1, 2))


def test_a_line_of_one_pixel_is_itself_wherever_it_is_moved():
    x = images(height=1)

    seen = take(x, torch.arange(6), fixed_view(6, 2, 0, False, CPU))

    assert torch.equal(seen, x)
