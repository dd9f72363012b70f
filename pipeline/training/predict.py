"""Prediction with test-time augmentation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.fuse import fuse
from pipeline.training.augment import fixed_view, take
from pipeline.training.batches import EVALUATED_PIXELS, evaluated_together
from pipeline.training.execution import Execution
from pipeline.training.placement import brought
from pipeline.training.prefetch import prefetched

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
    max_shift: int,
    multi_label: bool = False,
    batch_pixels: int = EVALUATED_PIXELS,
) -> Tensor:
    """Class probabilities float32 [N, classes] of the images `index`, averaged over all views.

    `images` is uint8 [M, H, W, C], on the model's device or streamed to it, and `index` is where
    they are. A view is shifted by at most `max_shift` pixels, the most that training showed: where
    images were never shifted, what is learned may hang on their exact place. Logits are averaged,
    then softmax is taken or, where an image may have several labels, the sigmoid of each. The model
    itself stays as it is: what predicts is its fused form.
    """
    fused, device = fuse(model), next(model.parameters()).device
    seen = (
        _views(images, rows, max_shift, mirror, device)
        for rows in evaluated_together(index, images, batch_pixels)
    )
    parts = []
    for views in prefetched(seen) if images.device != device else seen:
        logits = torch.stack([_logits(fused, view, execution) for view in views]).mean(0)
        parts.append(logits.sigmoid() if multi_label else logits.softmax(1))
    return torch.cat(parts).cpu()


def views_for(max_shift: int, mirror: bool) -> list[tuple[int, int, bool]]:
    """The shifts (down, right) in pixels that an image is predicted with, mirrored or not."""
    return [
        (down, right, mirrored)
        for down, right in SHIFTS
        if max(abs(down), abs(right)) <= max_shift
        for mirrored in ((False, True) if mirror else (False,))
    ]


def _logits(model: nn.Module, images: Tensor, execution: Execution) -> Tensor:
    with execution.autocast():
        logits: Tensor = model(images)
    return logits.float()


def _views(
    images: Tensor, index: Tensor, max_shift: int, mirror: bool, device: torch.device
) -> list[Tensor]:
    """The images `index` in every view, on the device."""
    return [
        brought(take(images, index, view), device)
        for down, right, mirrored in views_for(max_shift, mirror)
        for view in (fixed_view(len(index), down, right, mirrored, images.device),)
    ]
