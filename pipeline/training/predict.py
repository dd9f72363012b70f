"""Prediction with test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.models.fuse import fuse
from pipeline.training.augment import fixed_view, take
from pipeline.training.execution import Execution

# Shifts (down, right) in pixels; each is also seen mirrored where that keeps the label.
SHIFTS = ((0, 0), (1, 1), (-1, -1))


@torch.inference_mode()
def predict_probabilities(
    model: nn.Module,
    images: Tensor,
    index: Tensor,
    mirror: bool,
    execution: Execution,
    *,
    multi_label: bool = False,
    batch_pixels: int = 2**19,
) -> Tensor:
    """Class probabilities float32 [N, classes] of the images `index`, averaged over all views.

    `images` is uint8 [M, H, W, C]; logits are averaged, then softmax is taken or, where an image
    may have several labels, the sigmoid of each. The model itself stays as it is: what predicts is
    its fused form.
    """
    fused = fuse(model)
    batch = max(1, batch_pixels // (images.shape[1] * images.shape[2]))
    parts = []
    for rows in index.split(batch):
        views = [_logits(fused, seen, execution) for seen in _views(images, rows, mirror)]
        logits = torch.stack(views).mean(0)
        parts.append(logits.sigmoid() if multi_label else logits.softmax(1))
    return torch.cat(parts).cpu()


def _logits(model: nn.Module, images: Tensor, execution: Execution) -> Tensor:
    with execution.autocast():
        logits: Tensor = model(images)
    return logits.float()


def _views(images: Tensor, index: Tensor, mirror: bool) -> Iterator[Tensor]:
    for down, right in SHIFTS:
        for mirrored in (False, True) if mirror else (False,):
            view = fixed_view(len(index), down, right, mirrored, images.device)
            yield take(images, index, view)
