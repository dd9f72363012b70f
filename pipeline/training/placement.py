"""Where images lie while a network sees them: on its device, or on the host, brought in batches."""

from __future__ import annotations

import torch
from torch import Tensor

# Images stay on the host beyond this share of the free memory of a GPU.
_SHARE_FOR_IMAGES = 0.5


def near(images: Tensor, device: torch.device) -> Tensor:
    """The images on the device if they fit there; else where they are, memory-mapped."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes > _SHARE_FOR_IMAGES * free:
            return images
    return images.to(device)


def brought(images: Tensor, device: torch.device) -> Tensor:
    """A batch on the device; the host does not wait until it is there."""
    if images.device == device:
        return images
    return (images.pin_memory() if device.type == "cuda" else images).to(device, non_blocking=True)
