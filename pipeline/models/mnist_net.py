"""The small MNIST net of the study that writes the convolution from scratch."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.convs import make_conv

POOLED_SIDE = 4


class MnistNet(nn.Module):
    """Four 3 x 3 convolutions without padding in two pooled pairs, then two linear layers.

    28 x 28 images are pooled by 2 twice. The second pooling is written by its output size, 4 x 4,
    so that other images of at least 14 x 14 pixels fit too. The source names no activation; ReLU
    stands after every convolution and the first linear layer.
    """

    def __init__(self, conv: str, in_channels: int, classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.features = nn.Sequential(
            make_conv(conv, in_channels, 3, 3, bias=True),
            nn.ReLU(),
            make_conv(conv, 3, 3, 3, bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2),
            make_conv(conv, 3, 6, 3, bias=True),
            nn.ReLU(),
            make_conv(conv, 6, 6, 3, bias=True),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(POOLED_SIDE),
        )
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(6 * POOLED_SIDE**2, 30),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(30, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, classes]."""
        return self.head(self.features(x).flatten(1))  # type: ignore[no-any-return]
