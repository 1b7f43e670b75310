"""EfficientNet-Lite as a feature extractor. Every batch norm is folded into the convolution before it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

PIXEL_MEAN, PIXEL_SCALE = 127 / 255, 128 / 255  # the ImageNet weights expect (level - 127) / 128


class Stage(NamedTuple):
    """A sequence of inverted residual blocks. The first block has stride `stride`, the others 1."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    blocks: int


_LITE0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


def _scaled(channels: tuple[int, ...], blocks: tuple[int, ...]) -> tuple[Stage, ...]:
    return tuple(
        stage._replace(channels=width, blocks=count)
        for stage, width, count in zip(_LITE0, channels, blocks, strict=True)
    )


BACKBONES = {
    "efficientnet_lite0": _LITE0,
    "efficientnet_lite1": _scaled((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    "efficientnet_lite2": _scaled((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
"""Stages of each backbone. Stages 1, 2, 4 and 6 are the last ones at strides 4, 8, 16 and 32."""

STEM_CHANNELS = 32


class EfficientNetLiteConv(nn.Module):
    """Convolution with TensorFlow's "same" padding: an odd pixel is added on the right and at the bottom."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        before = (kernel - stride) // 2
        self.padding = None if stride == 1 else (before, kernel - stride - before) * 2
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(features if self.padding is None else F.pad(features, self.padding))


class EfficientNetLiteBlock(GradientCheckpointingLayer):
    """Inverted residual block: expand, filter each channel, project.

    Takes (B, C, H, W) and returns (B, stage.channels, H / stride, W / stride).
    """

    def __init__(self, channels_in: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        width = channels_in * stage.expansion
        self.expand = EfficientNetLiteConv(channels_in, width, 1) if stage.expansion > 1 else None
        self.depthwise = EfficientNetLiteConv(width, width, stage.kernel, stride=stride, groups=width)
        self.project = EfficientNetLiteConv(width, stage.channels, 1)
        self.residual = stride == 1 and channels_in == stage.channels

    def forward(self, features: Tensor) -> Tensor:
        wide = features if self.expand is None else F.relu6(self.expand(features))
        projected = self.project(F.relu6(self.depthwise(wide)))
        return features + projected if self.residual else projected


class EfficientNetLiteFeatures(NamedTuple):
    """Features by stride, each of shape (B, C, H / stride, W / stride)."""

    stride4: Tensor
    stride8: Tensor
    stride16: Tensor
    stride32: Tensor


class EfficientNetLiteBackbone(nn.Module):
    """Features of an image at strides 4, 8, 16 and 32: all layers of EfficientNet-Lite before its classifier.

    Source: EfficientNet (ICML 2019) and its Lite variants, without squeeze-and-excitation and with ReLU6; Apache-2.0.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stem = EfficientNetLiteConv(3, STEM_CHANNELS, 3, stride=2)
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for stage in BACKBONES[name]:
            blocks = nn.Sequential()
            for number in range(stage.blocks):
                blocks.append(EfficientNetLiteBlock(channels, stage, stride=stage.stride if number == 0 else 1))
                channels = stage.channels
            self.stages.append(blocks)

    def forward(self, pixel_values: Tensor) -> EfficientNetLiteFeatures:
        """Extract features.

        Args:
            pixel_values: RGB in [0, 1], shape (B, 3, H, W), H and W multiples of 32.
        Returns:
            features at four strides, in the dtype of the weights.
        """
        normalized = (pixel_values - PIXEL_MEAN) / PIXEL_SCALE
        features = normalized.to(self.stem.conv.weight.dtype).contiguous(memory_format=torch.channels_last)
        features = F.relu6(self.stem(features))
        outputs = []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return EfficientNetLiteFeatures(outputs[1], outputs[2], outputs[4], outputs[6])


__all__ = ["BACKBONES", "EfficientNetLiteBackbone", "EfficientNetLiteFeatures"]
