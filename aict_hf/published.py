"""AICT as published: torch's transformer layers and 5-D grid sampling, with the names of the authors' code.

Tests and benchmarks compare the package with this slow version. Source: AICT (NeurIPS 2024), section 3.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .model.configuration_aict import AICTConfig


class PublishedNetwork(nn.Module):
    """The parameter network. Its state dict has the authors' names and shapes."""

    def __init__(self, config: AICTConfig) -> None:
        super().__init__()
        width, nodes = config.hidden_size, 3 * config.num_intervals
        assert config.decoder_stride is not None  # set by the configuration
        self.patch, self.intervals = config.patch_size, config.num_intervals
        layer = nn.TransformerEncoderLayer(
            width,
            config.num_attention_heads,
            config.intermediate_size,
            dropout=config.hidden_dropout_prob,
            activation="gelu",
            batch_first=True,
            norm_first=config.norm_first,
        )
        self.encoder: Any = nn.Module()
        self.encoder.patch_to_embedding = nn.Sequential(nn.Identity(), nn.Linear(4 * self.patch**2, width))
        self.encoder.transformer_enc = nn.TransformerEncoder(
            layer, config.num_hidden_layers, enable_nested_tensor=False
        )
        self.decoder: Any = nn.Module()
        self.decoder.dec = nn.ConvTranspose2d(
            width, config.decoder_channels, config.decoder_stride, stride=config.decoder_stride
        )
        self.bottom_convs = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width // 2, width // 4, 3, padding=1),
            nn.BatchNorm2d(width // 4),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
        )
        self.class_layer = nn.Linear(width // 4, nodes)
        self.colors_layer = nn.Conv2d(config.decoder_channels, nodes, 1)
        self.params_layer = nn.Conv2d(config.decoder_channels, nodes, 1)

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the LUTs.

        Args:
            image: RGB in [0, 1], shape (B, 3, H, W), H and W multiples of the patch size.
            mask: foreground in [0, 1], shape (B, 1, H, W).
        Returns:
            sampling intervals and weighted colour LUT, both of shape (B, 3, K, h, w).
        """
        pixels = torch.cat([image, mask], dim=1)
        batch, _, height, width = pixels.shape
        rows, columns, patch = height // self.patch, width // self.patch, self.patch
        patches = (
            pixels.reshape(batch, 4, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        )
        tokens = self.encoder.transformer_enc(self.encoder.patch_to_embedding(patches))
        features = tokens.transpose(1, 2).reshape(batch, -1, rows, columns)
        decoded = self.decoder.dec(features)
        weight = self.class_layer(self.bottom_convs(features).flatten(1))[:, :, None, None]
        intervals = self.colors_layer(decoded).unflatten(1, (3, self.intervals)).softmax(2)
        return intervals, (self.params_layer(decoded) * weight).unflatten(1, (3, self.intervals))


def published_luts(composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor) -> Tensor:
    """`apply_luts` by sampling both LUTs as 5-D grids, with a stored coordinate for every pixel."""
    _, _, height, width = composite.shape
    y = torch.linspace(-1, 1, height, dtype=composite.dtype, device=composite.device)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width, dtype=composite.dtype, device=composite.device)[None].expand(height, width)

    def sample(table: Tensor, intensity: Tensor) -> Tensor:
        position = torch.stack([x.expand_as(intensity), y.expand_as(intensity), intensity * 2 - 1], dim=-1)
        found = F.grid_sample(
            table[:, None], position[:, None], mode="bilinear", padding_mode="border", align_corners=True
        )
        return found[:, 0, 0]

    channels = []
    for channel in range(3):
        redistributed = sample(knots[:, channel], composite[:, channel].detach())
        channels.append(sample(color_lut[:, channel], redistributed))
    output = torch.stack(channels, dim=1).clamp(0, 1)
    return mask * output + (1 - mask) * composite


__all__ = ["PublishedNetwork", "published_luts"]
