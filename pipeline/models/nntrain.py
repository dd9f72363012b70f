"""The Fashion-MNIST networks of the nntrain study: a residual net and two plain ones."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.convs import make_conv

RESNET_WIDTHS = (8, 16, 32, 64, 128, 256)
CNN_WIDTHS = (8, 16, 32, 64)
DEEP_CNN_WIDTHS = (8, 16, 32, 64, 128)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, the second with the stride, beside a pooled 1 x 1 shortcut."""

    def __init__(self, conv: str, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = make_conv(conv, in_channels, out_channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = make_conv(conv, out_channels, out_channels, 3, stride=stride, padding=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_conv(conv, in_channels, out_channels, 1, bias=True)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return self.relu(out + self.pool(self.shortcut(x)))  # type: ignore[no-any-return]


class ResNetNNTrain(nn.Module):
    """Six residual blocks, all but the first halving the image, then a normalised linear head.

    With `subkernel`, one input channel and ten classes: 1,227,900 parameters. 28 x 28 images end
    as one pixel; larger ones are averaged to one.
    """

    pretrained_cfg: ClassVar[dict[str, Any]] = {"classifier": ("head", "norm")}  # as timm has it

    def __init__(self, conv: str, in_channels: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        channels = (in_channels, *RESNET_WIDTHS)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(conv, channels[i], channels[i + 1], stride=1 if i == 0 else 2)
                for i in range(len(RESNET_WIDTHS))
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], classes, bias=False)
        self.norm = nn.BatchNorm1d(classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, classes]."""
        features = self.pool(self.blocks(x)).flatten(1)
        return self.norm(self.head(self.dropout(features)))  # type: ignore[no-any-return]


class PlainCNN(nn.Module):
    """3 x 3 convolutions with batch norm and ReLU; the last gives the logits, without either.

    28 x 28 images end as one pixel; the logits of larger ones are averaged.

    Args:
        widths: output channels of the convolutions before the last.
        first_stride: stride of the first convolution; all others have stride 2.
    """

    pretrained_cfg: ClassVar[dict[str, Any]] = {"classifier": "head"}  # as timm has it

    def __init__(
        self,
        conv: str,
        in_channels: int,
        classes: int,
        dropout: float,
        widths: tuple[int, ...],
        first_stride: int,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = (in_channels, *widths)
        for i, width in enumerate(widths):
            stride = first_stride if i == 0 else 2
            layers.append(make_conv(conv, channels[i], width, 3, stride=stride, padding=1))
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = make_conv(conv, channels[-1], classes, 3, stride=2, padding=1, bias=True)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, classes]."""
        return self.pool(self.head(self.dropout(self.features(x)))).flatten(1)  # type: ignore[no-any-return]


class NNTrainCNN(PlainCNN):
    """Five convolutions of stride 2: 8, 16, 32, 64 channels, classes."""

    def __init__(self, conv: str, in_channels: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__(conv, in_channels, classes, dropout, CNN_WIDTHS, first_stride=2)


class NNTrainDeepCNN(PlainCNN):
    """Six convolutions, the first of stride 1: 8, 16, 32, 64, 128 channels, classes."""

    def __init__(self, conv: str, in_channels: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__(conv, in_channels, classes, dropout, DEEP_CNN_WIDTHS, first_stride=1)
