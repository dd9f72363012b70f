"""One 3D layer, to compare convolutions without a network around them."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.convs import make_conv


class ConvLayer3d(nn.Module):
    """A 3 x 3 x 3 convolution with all its biases, and batch norm.

    From 16 to 32 channels: 13,920 parameters with `subkernel`; 7,808 with `bottleneck2` and 1,056
    with `separable`, or 7,872 and 1,088 with norms inside (`-norm`).

    Args:
        classes: output channels.
        dropout: of whole channels, behind the norm.
    """

    def __init__(self, conv: str, in_channels: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = make_conv(
            conv,
            in_channels,
            classes,
            3,
            dimensions=3,
            padding=1,
            bias=True,
            inner_bias="where-possible",
        )
        self.norm = nn.BatchNorm3d(classes)
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, D, H, W] to [N, classes, D, H, W]."""
        return self.dropout(self.norm(self.conv(x)))  # type: ignore[no-any-return]
