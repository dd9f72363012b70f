"""The yardstick: the training loop of a typical published notebook, for comparison only.

Images are opened and decoded one by one in a DataLoader, augmented one by one by torchvision,
and trained on in fp32 and NCHW; the loss is fetched from the device at every step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Image files with labels, decoded and augmented as they are asked for.

    `resized`: their short side is resized to `side` and their centre cropped; else they have it.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        side: int,
        channels: int,
        *,
        resized: bool,
    ) -> None:
        self.files, self.labels = list(files), list(labels)
        self.mode = "RGB" if channels == 3 else "L"
        self.transform = transforms.Compose(
            [
                *([transforms.Resize(side), transforms.CenterCrop(side)] if resized else []),
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(side, padding=side // 8),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * channels, [0.25] * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self.files[row]) as image:
            return self.transform(image.convert(self.mode)), self.labels[row]


class Yardstick:
    """Trains `net` (float [N, channels, side, side] to logits) epoch by epoch, the plain way."""

    def __init__(
        self,
        net: nn.Module,
        files: Sequence[Path],
        labels: Sequence[int],
        *,
        side: int,
        channels: int,
        batch: int,
        device: str,
        resized: bool,
    ) -> None:
        self.net, self.device = net.to(device), device
        self.loader = DataLoader(
            ImageFiles(files, labels, side, channels, resized=resized),
            batch_size=batch,
            shuffle=True,
            num_workers=os.cpu_count() or 1,
            persistent_workers=True,
            drop_last=True,
        )
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)

    def epoch(self) -> tuple[float, float]:
        """One pass over all images; (seconds, mean loss)."""
        start, losses = time.perf_counter(), []
        self.net.train()
        for images, labels in self.loader:
            logits = self.net(images.to(self.device))
            loss = F.cross_entropy(logits, labels.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return time.perf_counter() - start, sum(losses) / len(losses)
