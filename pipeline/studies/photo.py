"""One photo through four 3 x 3 filters: by Python loops, by the library, by shifted slices."""

from __future__ import annotations

import io
import random
import statistics
import time
from collections.abc import Callable
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pipeline.convs.shifted import conv_shifted
from pipeline.studies.cells import Bench, Cell, Outcome
from pipeline.studies.figures import panels, png
from pipeline.training.execution import choose_execution

Convolve = Callable[[Tensor, Tensor], Tensor]
COLOURS = 3
# Of a cup of coffee; it comes with scikit-image, 600 x 400 pixels.
_PHOTO = ("skimage.data", "coffee.png")
_TALLEST = 400
FILTERS: dict[str, list[list[float]]] = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "edge detect": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
}


def load_photo(side: int) -> Tensor:
    """The middle of the photo, [1, 3, side or less, side or less], from 0 to 1, channels last."""
    content = (resources.files(_PHOTO[0]) / _PHOTO[1]).read_bytes()
    photo = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    pixels = torch.from_numpy(photo.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return _middle(pixels, side).contiguous(memory_format=torch.channels_last)


def kernel_of(name: str) -> Tensor:
    """The filter as a convolution that takes every colour to itself, [3, 3, 3, 3]."""
    kernel = torch.zeros(COLOURS, COLOURS, 3, 3)
    kernel[range(COLOURS), range(COLOURS)] = torch.tensor(FILTERS[name], dtype=torch.float32)
    return kernel


def by_loops(image: Tensor, kernel: Tensor) -> Tensor:
    """The definition, one product at a time: x [N, in, H, W], kernel [out, in, k, k].

    As the study starts: with tensors indexed in Python, without padding.
    """
    count, inputs, height, width = image.shape
    outputs, _, rows, columns = kernel.shape
    out = torch.zeros(count, outputs, height - rows + 1, width - columns + 1)
    for n, o, y, x in np.ndindex(*out.shape):
        for c, i, j in np.ndindex(inputs, rows, columns):
            out[n, o, y, x] += image[n, c, y + i, x + j] * kernel[o, c, i, j]
    return out


def by_library(image: Tensor, kernel: Tensor) -> Tensor:
    """The library's convolution, without padding."""
    return F.conv2d(image, kernel)


def by_shifted_slices(image: Tensor, kernel: Tensor) -> Tensor:
    """A matrix product for each of the kernel's taps, summed, without padding."""
    return conv_shifted(image, kernel, None, (1, 1), (0, 0), (1, 1))


def measure_photo(bench: Bench, cell: Cell) -> Outcome:
    """Time of one filter by the three ways, in rounds whose order is drawn.

    Loops see a crop, on the CPU; their seconds are scaled by the pixels that come out. Every
    round does each filter once, so there are rounds x filters values.
    """
    side, crop, rounds = bench.pick(smoke=(32, 8, 1), cpu=(_TALLEST, 24, 5), gpu=(_TALLEST, 32, 5))
    repeats = bench.pick(smoke=2, cpu=20, gpu=200)
    device = torch.device(choose_execution().device)
    photo, small = load_photo(side), load_photo(crop)
    kernels = {name: kernel_of(name) for name in FILTERS}
    difference = _largest_difference(small, list(kernels.values()))
    scale = _pixels_out(photo) / _pixels_out(small)
    seconds: dict[str, list[float]] = {"loops": [], "library": [], "shifted": []}
    runs: dict[str, Callable[[Tensor], float]] = {
        "loops": lambda kernel: scale * _seconds(by_loops, small, kernel, 1),
        "library": lambda kernel: _seconds(
            by_library, photo.to(device), kernel.to(device), repeats
        ),
        "shifted": lambda kernel: _seconds(
            by_shifted_slices, photo.to(device), kernel.to(device), repeats
        ),
    }
    order = random.Random(cell.seed)
    for _ in tqdm(range(rounds), desc=cell.name, unit="round"):
        bench.deadline.check()
        for kernel in kernels.values():
            for name in order.sample(sorted(runs), len(runs)):
                seconds[name].append(runs[name](kernel))
    return _outcome(seconds, difference, photo, small, device, repeats)


def _outcome(
    seconds: dict[str, list[float]],
    difference: float,
    photo: Tensor,
    small: Tensor,
    device: torch.device,
    repeats: int,
) -> Outcome:
    ratios = {
        f"{name}_to_library": [
            own / other for own, other in zip(seconds[name], seconds["library"], strict=True)
        ]
        for name in ("loops", "shifted")
    }
    milliseconds = {f"{name}_ms": 1000 * _median(seconds[name]) for name in ("library", "shifted")}
    return Outcome(
        figures={
            "loops_scaled_s": _median(seconds["loops"]),
            **milliseconds,
            **{name: _median(each) for name, each in ratios.items()},
            "largest_difference": difference,
        },
        curves={f"{name}_s": each for name, each in seconds.items()},
        setup={
            "photo": list(photo.shape),
            "crop_of_loops": list(small.shape),
            "loops": "on the crop, on the CPU; seconds scaled by the number of output pixels",
            "device": device.type,
            "repeats": repeats,
        },
        n=len(seconds["loops"]),
        spread={name: (min(each), max(each)) for name, each in ratios.items()},
    )


def _middle(image: Tensor, side: int) -> Tensor:
    height, width = (min(side, size) for size in image.shape[2:])
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    return image[:, :, top : top + height, left : left + width]


def _largest_difference(image: Tensor, kernels: list[Tensor]) -> float:
    """Of any pixel, from the loops' to the other two ways'."""
    found = 0.0
    for kernel in kernels:
        truth = by_loops(image, kernel)
        for way in (by_library, by_shifted_slices):
            found = max(found, (way(image, kernel) - truth).abs().max().item())
    return found


def _pixels_out(image: Tensor) -> int:
    return (image.shape[2] - 2) * (image.shape[3] - 2)


def _seconds(convolve: Convolve, image: Tensor, kernel: Tensor, repeats: int) -> float:
    """Of one call, the mean over `repeats` behind one that warms up."""
    if repeats > 1:
        convolve(image, kernel)
    _wait(image)
    start = time.perf_counter()
    for _ in range(repeats):
        convolve(image, kernel)
    _wait(image)
    return (time.perf_counter() - start) / repeats


def _wait(image: Tensor) -> None:
    if image.is_cuda:
        torch.cuda.synchronize(image.device)


def _median(values: list[float]) -> float:
    return statistics.median(values)


def draw_gallery() -> bytes:
    """A PNG: the photo, and what each filter makes of it."""
    photo = load_photo(_TALLEST)
    images = {"photo": photo}
    images |= {name: by_shifted_slices(photo, kernel_of(name)) for name in FILTERS}
    figure, axes = panels("One photo, four 3 x 3 filters", len(images))
    figure.set_size_inches(10, 2.2)
    for each, (name, image) in zip(axes, images.items(), strict=True):
        each.imshow(image[0].clamp(0, 1).permute(1, 2, 0).numpy())
        each.set_title(name, fontsize=9)
        each.axis("off")
    return png(figure)
