"""Layers of the AICT network."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .backbone_efficientnet import EfficientNetLiteFeatures
from .configuration_aict import AICTConfig


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention in plain torch, with the signature of transformers' attention interface."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class AICTAttention(nn.Module):
    """Multi-head self-attention over the patches; tokens in and out have shape (B, tokens, hidden_size)."""

    def __init__(self, config: AICTConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor, output_attentions: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend, and return the weights of the heads too, shape (B, heads, tokens, tokens), if they are asked for."""

        def split_heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(2, (-1, self.head_dim)).transpose(1, 2)

        attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        query, key, value = (split_heads(proj(hidden_states)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        attended, weights = attention_interface(self, query, key, value, None, dropout=dropout, scaling=self.scaling)
        if output_attentions and (weights is None or weights.ndim != 4):
            # Fused attention keeps no weights; flex attention returns logarithms of their sums instead.
            attended, weights = eager_attention_forward(self, query, key, value, None, self.scaling, dropout)
        return self.o_proj(attended.flatten(2)), weights if output_attentions else None


class AICTLayer(GradientCheckpointingLayer):
    """One transformer encoder layer: post-norm as published, or pre-norm if `config.norm_first` is true.

    Returns the tokens, and the attention weights if they are asked for.
    """

    def __init__(self, config: AICTConfig):
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = AICTAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def feed_forward(self, hidden_states: Tensor) -> Tensor:
        return self.fc2(self.dropout(self.activation(self.fc1(hidden_states))))

    def forward(self, hidden_states: Tensor, output_attentions: bool = False) -> tuple[Tensor, Tensor | None]:
        if self.norm_first:
            attended, weights = self.attention(self.attention_norm(hidden_states), output_attentions)
            hidden_states = hidden_states + self.dropout(attended)
            return hidden_states + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_states))), weights
        attended, weights = self.attention(hidden_states, output_attentions)
        hidden_states = self.attention_norm(hidden_states + self.dropout(attended))
        return self.feed_forward_norm(hidden_states + self.dropout(self.feed_forward(hidden_states))), weights


class AICTColorStatistics(nn.Module):
    """Embeds the colour statistics of foreground, background and photo.

    Returns a token, shape (B, hidden_size), and a change of the global head's values, shape (B, outputs, 1, 1), or None
    if `outputs` is 0. Not part of the published network: see `AICTConfig.color_statistics`.
    """

    def __init__(self, config: AICTConfig, outputs: int):
        super().__init__()
        self.fc1 = nn.Linear(3 * 12 + 1, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.proj = nn.Linear(config.intermediate_size, outputs) if outputs else None

    def forward(self, pixel_values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        statistics = color_statistics(pixel_values, mask)
        embedded = self.activation(self.fc1(statistics.to(self.fc1.bias.dtype)))  # weights may be quantized
        return self.fc2(embedded), None if self.proj is None else self.proj(embedded)[:, :, None, None]


class AICTRegionStatistics(nn.Module):
    """Embeds the colour statistics and the means of the backbone's features inside and outside the foreground.

    Returns what `AICTColorStatistics` returns. Not part of the published network: see `AICTConfig.backbone`.
    """

    def __init__(self, config: AICTConfig, channels: int, outputs: int):
        super().__init__()
        self.norm = nn.LayerNorm(3 * channels, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.statistics_dropout_prob)
        self.activation = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(3 * 12 + 1 + 3 * channels, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.intermediate_size // 2)
        self.token = nn.Linear(config.intermediate_size // 2, config.hidden_size)
        self.proj = nn.Linear(config.intermediate_size // 2, outputs) if outputs else None

    def forward(
        self, pixel_values: Tensor, mask: Tensor, features: EfficientNetLiteFeatures
    ) -> tuple[Tensor, Tensor | None]:
        dtype = self.norm.weight.dtype  # those of linear layers may be quantized
        pooled = [region_means(map_, mask) for map_ in (features.stride8, features.stride16, features.stride32)]
        means = self.dropout(self.norm(torch.cat(pooled, dim=1).to(dtype)))
        statistics = torch.cat([color_statistics(pixel_values, mask).to(dtype), means], dim=1)
        embedded = self.activation(self.fc2(self.activation(self.fc1(statistics))))
        return self.token(embedded), None if self.proj is None else self.proj(embedded)[:, :, None, None]


class AICTDecoder(nn.Module):
    """Decoder features at a quarter of the image size, from the encoder, the backbone and the image itself.

    The lateral connections keep the patch grid, which a transposed convolution shows, out of the maps. A pre-norm
    encoder ends without a norm and its features grow in training: without `norm`, the GELU returns 0 everywhere.
    """

    def __init__(self, config: AICTConfig, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder_proj = nn.Conv2d(config.hidden_size, config.decoder_hidden_size, kernel_size=1)
        self.backbone_lateral = nn.Conv2d(channels, config.decoder_hidden_size, kernel_size=1)
        self.image_lateral = nn.Conv2d(4, config.decoder_hidden_size, kernel_size=4, stride=4)
        self.output = nn.Conv2d(config.decoder_hidden_size, config.decoder_channels, kernel_size=3, padding=1)

    def forward(self, encoded: Tensor, stride4: Tensor, image: Tensor) -> Tensor:
        encoded = self.norm(encoded.movedim(1, 3)).movedim(3, 1)
        upsampled = F.interpolate(self.encoder_proj(encoded), scale_factor=4, mode="bilinear", align_corners=False)
        return self.output(F.gelu(upsampled + self.backbone_lateral(stride4) + self.image_lateral(image)))


def region_means(features: Tensor, mask: Tensor) -> Tensor:
    """Means of features inside and outside the foreground, and their difference, in float32.

    Args:
        features: shape (B, C, h, w).
        mask: foreground in [0, 1], shape (B, 1, H, W), H and W multiples of h and w.
    Returns:
        shape (B, 3 * C); a region without pixels has means of 0.
    """
    features = features.float()
    weight = F.avg_pool2d(mask.float(), mask.shape[2] // features.shape[2])
    inside, outside = (
        (features * region).sum(dim=(2, 3)) / (region.sum(dim=(2, 3)) + 1e-3) for region in (weight, 1 - weight)
    )
    return torch.cat([inside, outside, inside - outside], dim=1)


def color_statistics(pixel_values: Tensor, mask: Tensor) -> Tensor:
    """`color_moments` of foreground, background and image, and the area share of the foreground.

    Args:
        pixel_values: RGB in [0, 1], shape (B, 3, H, W).
        mask: foreground in [0, 1], shape (B, 1, H, W).
    Returns:
        float32, shape (B, 37).
    """
    colors, weight = pixel_values.float().flatten(2), mask.float().flatten(2)
    moments = [color_moments(colors, region) for region in (weight, 1 - weight, torch.ones_like(weight))]
    return torch.cat([*moments, 4 * weight.mean(dim=2) - 2], dim=1)


def color_moments(colors: Tensor, weight: Tensor) -> Tensor:
    """Mean, standard deviation, correlation and skewness of the channels of weighted pixels, scaled to about -2 to 2.

    Args:
        colors: RGB in [0, 1], shape (B, 3, P).
        weight: weights of the pixels, 0 to 1, shape (B, 1, P); if all are 0, the moments are those of black pixels.
    Returns:
        shape (B, 12).
    """
    area = weight.sum(dim=2, keepdim=True) + 1e-3
    mean = (colors * weight).sum(dim=2, keepdim=True) / area
    centered = colors - mean
    covariance = (centered * weight) @ centered.transpose(1, 2) / area
    spread = torch.diagonal(covariance, dim1=1, dim2=2).clamp(min=1e-6).sqrt()
    correlation = covariance / (spread[:, :, None] * spread[:, None])
    pairs = torch.stack([correlation[:, 0, 1], correlation[:, 0, 2], correlation[:, 1, 2]], dim=1)
    skewness = (centered**3 * weight).sum(dim=2) / area[:, :, 0] / spread**3
    return torch.cat([4 * mean[:, :, 0] - 2, 8 * spread - 1.6, 2 * pairs - 1.4, skewness.clamp(-4, 4)], dim=1)


class AICTGlobalHead(nn.Module):
    """Values for the whole image, shape (B, outputs, 1, 1), from the encoder features.

    They are the weights of colour-LUT nodes (global consistent weights), or what a global colour transformation takes.
    """

    def __init__(self, config: AICTConfig, outputs: int):
        super().__init__()
        half, quarter = config.hidden_size // 2, config.hidden_size // 4
        self.conv1 = nn.Conv2d(config.hidden_size, half, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, quarter, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(quarter)
        self.proj = nn.Linear(quarter, outputs)

    def forward(self, features: Tensor) -> Tensor:
        features = F.relu(self.norm1(self.conv1(features)))
        features = F.max_pool2d(features, 2)
        features = F.relu(self.norm2(self.conv2(features)))
        return self.proj(features.amax(dim=(2, 3)))[:, :, None, None]


__all__ = [
    "AICTAttention",
    "AICTColorStatistics",
    "AICTDecoder",
    "AICTGlobalHead",
    "AICTLayer",
    "AICTRegionStatistics",
    "color_moments",
    "color_statistics",
    "eager_attention_forward",
    "region_means",
]
