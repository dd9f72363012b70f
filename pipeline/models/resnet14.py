"""The small residual net of the channel-selection study."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.convs import make_conv
from pipeline.models.norm import norm_relu

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, added to a shortcut."""

    def __init__(self, conv: str, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = make_conv(conv, in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = make_conv(conv, out_channels, out_channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                make_conv(conv, in_channels, out_channels, 1, stride=stride),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] to [N, out, H / stride, W / stride]."""
        out = norm_relu(self.norm1, self.conv1(x))
        return norm_relu(self.norm2, self.conv2(out), self.shortcut(x))


class ResNet14(nn.Module):
    """Stem, three stages of two residual blocks (16, 32, 64 channels), pooled linear head.

    With 3 input channels and 3 classes: 174,787 parameters with `subkernel`, 27,363 with
    `channel-selection`. The stem is a standard convolution in every variant.

    Args:
        widths: channels of the three stages.
    """

    def __init__(
        self,
        conv: str,
        in_channels: int,
        classes: int,
        dropout: float = 0.2,
        widths: tuple[int, int, int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            blocks.append(BasicBlock(conv, channels, width, stride=1 if stage == 0 else 2))
            blocks.append(BasicBlock(conv, width, width, stride=1))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, classes]."""
        x = self.blocks(self.relu(self.stem(x))).mean((2, 3))
        return self.head(self.dropout(x))  # type: ignore[no-any-return]


def resnet14x2(conv: str, in_channels: int, classes: int, dropout: float = 0.2) -> ResNet14:
    """resnet14 with twice the channels: 32, 64, 128."""
    return ResNet14(conv, in_channels, classes, dropout, (32, 64, 128))


def resnet14x4(conv: str, in_channels: int, classes: int, dropout: float = 0.2) -> ResNet14:
    """resnet14 with four times the channels: 64, 128, 256."""
    return ResNet14(conv, in_channels, classes, dropout, (64, 128, 256))
