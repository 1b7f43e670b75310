"""PyTorch model of AICT (Adaptive-Interval Color Transformation, NeurIPS 2024) for image harmonization."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .backbone_efficientnet import BACKBONES, EfficientNetLiteBackbone, EfficientNetLiteFeatures
from .configuration_aict import AICTConfig
from .lut import apply_luts, knots_from_intervals
from .resizing import resize_image


@dataclass
class AICTOutput(ModelOutput):
    """What `AICTModel` returns. K is `config.num_intervals`, h and w the size of the LUT maps, float32 throughout.

    Attributes:
        loss: the paper's loss, scalar; only where `labels` were given.
        sampling_intervals: positive, sum to 1 over K, shape (B, 3, K, h, w).
        knots: their running sums from 0 to 1, the nodes of the first LUT, shape (B, 3, K + 1, h, w).
        color_lut: nodes of the colour LUT, already weighted, shape (B, 3, K, h, w).
        image_weight: the global weights in it, colour channel major, shape (B, 3 * K, 1, 1).
        harmonized: low-resolution result in [0, 1], shape and dtype of `pixel_values`; not with
            `return_harmonized=False`.
        full_harmonized: full-resolution results, as `full_composites` came: a tensor or a list of (3, H, W) tensors;
            only where `full_composites` were given.
    """

    loss: Tensor | None = None
    sampling_intervals: Tensor | None = None
    knots: Tensor | None = None
    color_lut: Tensor | None = None
    image_weight: Tensor | None = None
    harmonized: Tensor | None = None
    full_harmonized: Tensor | list[Tensor] | None = None


def foreground_mse(prediction: Tensor, target: Tensor, mask: Tensor, *, min_area: float) -> Tensor:
    """Squared error per foreground pixel, averaged over the images.

    Args:
        prediction: RGB in [0, 1], shape (B, 3, H, W).
        target: the same.
        mask: foreground in [0, 1], shape (B, 1, H, W).
        min_area: foregrounds smaller than this many pixels count as this many, so that tiny ones do not dominate.
    Returns:
        scalar: mean over B of sum((prediction - target)^2) / (3 * max(sum(mask), min_area)).
    Source: AICT (NeurIPS 2024), section 3.4.
    """
    error = ((prediction - target) ** 2).sum(dim=(1, 2, 3))
    area = mask.sum(dim=(1, 2, 3)).clamp(min=min_area)
    return (error / (3 * area)).mean()


def harmonization_loss(
    full_harmonized: Tensor | Sequence[Tensor],
    labels: Tensor | Sequence[Tensor],
    full_masks: Tensor | Sequence[Tensor],
    harmonized: Tensor,
    mask: Tensor,
    *,
    min_area: float = 1000.0,
    low_resolution_min_area: float = 100.0,
    low_resolution_weight: float = 0.01,
) -> Tensor:
    """The paper's loss: `foreground_mse` at full resolution, and a little of it at the network's.

    Args:
        full_harmonized, labels: results and real photos, float in [0, 1], a (B, 3, H, W) tensor or B tensors
            (3, H, W) of any sizes.
        full_masks: their foreground in [0, 1], likewise with 1 channel.
        harmonized: low-resolution results, float in [0, 1], shape (B, 3, h, w).
        mask: their foreground, shape (B, 1, h, w).
        min_area, low_resolution_min_area: `foreground_mse`'s, in pixels of either resolution.
        low_resolution_weight: of the low-resolution part.
    Returns:
        scalar.
    Source: AICT (NeurIPS 2024), section 3.4.
    """
    full = [
        foreground_mse(result[None], label[None], foreground[None], min_area=min_area)
        for result, label, foreground in zip(full_harmonized, labels, full_masks, strict=True)
    ]
    small_labels = torch.stack([resize_image(label, harmonized.shape[2:]) for label in labels])
    small_labels = small_labels.to(harmonized.device, harmonized.dtype) / 255
    small = foreground_mse(harmonized, small_labels, mask, min_area=low_resolution_min_area)
    return torch.stack(full).mean() + low_resolution_weight * small


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, Tensor]:
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

    def forward(self, hidden_states: Tensor) -> Tensor:
        def split_heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(2, (-1, self.head_dim)).transpose(1, 2)

        attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attended, _ = attention_interface(
            self,
            split_heads(self.q_proj(hidden_states)),
            split_heads(self.k_proj(hidden_states)),
            split_heads(self.v_proj(hidden_states)),
            None,
            dropout=self.config.attention_probs_dropout_prob if self.training else 0.0,
            scaling=self.scaling,
        )
        return self.o_proj(attended.flatten(2))


class AICTLayer(GradientCheckpointingLayer):
    """One transformer encoder layer: post-norm as published, or pre-norm where `config.norm_first`."""

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

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.norm_first:
            hidden_states = hidden_states + self.dropout(self.attention(self.attention_norm(hidden_states)))
            return hidden_states + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_states)))
        hidden_states = self.attention_norm(hidden_states + self.dropout(self.attention(hidden_states)))
        return self.feed_forward_norm(hidden_states + self.dropout(self.feed_forward(hidden_states)))


class AICTColorStatistics(nn.Module):
    """How the colours of foreground, background and photo are distributed, embedded: shape (B, hidden_size).

    Not part of the published network: see `AICTConfig.color_statistics`.
    """

    def __init__(self, config: AICTConfig):
        super().__init__()
        self.fc1 = nn.Linear(3 * 12 + 1, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.proj = nn.Linear(config.intermediate_size, 3 * config.num_intervals)

    def forward(self, pixel_values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        statistics = color_statistics(pixel_values, mask)
        embedded = self.activation(self.fc1(statistics.to(self.fc1.weight.dtype)))
        return self.fc2(embedded), self.proj(embedded)[:, :, None, None]


class AICTRegionStatistics(nn.Module):
    """The colour statistics and the backbone's means inside and outside the foreground, embedded.

    Returns a token, shape (B, hidden_size), and a change of `image_weight`, shape (B, 3 * K, 1, 1). Not part of the
    published network: see `AICTConfig.backbone`.
    """

    def __init__(self, config: AICTConfig, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(3 * channels, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.statistics_dropout_prob)
        self.activation = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(3 * 12 + 1 + 3 * channels, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.intermediate_size // 2)
        self.token = nn.Linear(config.intermediate_size // 2, config.hidden_size)
        self.proj = nn.Linear(config.intermediate_size // 2, 3 * config.num_intervals)

    def forward(self, pixel_values: Tensor, mask: Tensor, features: EfficientNetLiteFeatures) -> tuple[Tensor, Tensor]:
        dtype = self.fc1.weight.dtype
        pooled = [region_means(map_, mask) for map_ in (features.stride8, features.stride16, features.stride32)]
        means = self.dropout(self.norm(torch.cat(pooled, dim=1).to(dtype)))
        statistics = torch.cat([color_statistics(pixel_values, mask).to(dtype), means], dim=1)
        embedded = self.activation(self.fc2(self.activation(self.fc1(statistics))))
        return self.token(embedded), self.proj(embedded)[:, :, None, None]


class AICTDecoder(nn.Module):
    """Decoder features at a quarter of the image's size, from the encoder, the backbone and the image itself.

    The lateral connections keep the maps free of the grid of patches that a transposed convolution shows.
    """

    def __init__(self, config: AICTConfig, channels: int):
        super().__init__()
        self.encoder_proj = nn.Conv2d(config.hidden_size, config.decoder_hidden_size, kernel_size=1)
        self.backbone_lateral = nn.Conv2d(channels, config.decoder_hidden_size, kernel_size=1)
        self.image_lateral = nn.Conv2d(4, config.decoder_hidden_size, kernel_size=4, stride=4)
        self.output = nn.Conv2d(config.decoder_hidden_size, config.decoder_channels, kernel_size=3, padding=1)

    def forward(self, encoded: Tensor, stride4: Tensor, image: Tensor) -> Tensor:
        upsampled = F.interpolate(self.encoder_proj(encoded), scale_factor=4, mode="bilinear", align_corners=False)
        return self.output(F.gelu(upsampled + self.backbone_lateral(stride4) + self.image_lateral(image)))


def region_means(features: Tensor, mask: Tensor) -> Tensor:
    """Means inside the foreground and outside it, and their difference, in float32.

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
    """`color_moments` of foreground, background and image, and the foreground's share, in float32: shape (B, 37)."""
    colors, weight = pixel_values.float().flatten(2), mask.float().flatten(2)
    moments = [color_moments(colors, region) for region in (weight, 1 - weight, torch.ones_like(weight))]
    return torch.cat([*moments, 4 * weight.mean(dim=2) - 2], dim=1)


def color_moments(colors: Tensor, weight: Tensor) -> Tensor:
    """Mean, standard deviation, correlation and skewness of the channels of weighted pixels, scaled to about -2 to 2.

    Args:
        colors: RGB in [0, 1], shape (B, 3, P).
        weight: of each pixel, 0 to 1, shape (B, 1, P); where all are 0 the moments are those of black.
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


class AICTImageWeightHead(nn.Module):
    """One weight per colour-LUT node for the whole image, from the encoder features (global consistent weights)."""

    def __init__(self, config: AICTConfig):
        super().__init__()
        half, quarter = config.hidden_size // 2, config.hidden_size // 4
        self.conv1 = nn.Conv2d(config.hidden_size, half, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, quarter, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(quarter)
        self.proj = nn.Linear(quarter, 3 * config.num_intervals)

    def forward(self, features: Tensor) -> Tensor:
        features = F.relu(self.norm1(self.conv1(features)))
        features = F.max_pool2d(features, 2)
        features = F.relu(self.norm2(self.conv2(features)))
        return self.proj(features.amax(dim=(2, 3)))[:, :, None, None]


def _check_shards(folder: str | os.PathLike | None) -> None:
    """Refuse a folder with an index of weights, wherever in it, that names files elsewhere."""
    if folder is None or not Path(folder).is_dir():
        return
    for index in sorted(Path(folder).rglob("*.index*.json")):
        shards = json.loads(index.read_text(encoding="utf-8"))
        names = shards.get("weight_map") if isinstance(shards, dict) else None
        if not isinstance(names, dict):
            raise ValueError(f"{index}: is no index of weights; expected an object with a weight_map")
        for name in names.values():
            if Path(str(name)).name != name:
                raise ValueError(f"{index}: names {name!r}, outside its folder; expected names of files beside it")


class AICTModel(PreTrainedModel):
    """Predicts, from a composite and its foreground mask, the LUTs that harmonize the foreground.

    Source: AICT (NeurIPS 2024), section 3 and figure 2.
    """

    config: AICTConfig
    config_class = AICTConfig
    base_model_prefix = "aict"
    main_input_name = "pixel_values"
    input_modalities = "image"
    supports_gradient_checkpointing = True
    _no_split_modules = [  # noqa: RUF012  as transformers declares it
        *("AICTLayer", "AICTImageWeightHead"),
        *("EfficientNetLiteBackbone", "AICTRegionStatistics", "AICTDecoder"),
    ]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: AICTConfig):
        super().__init__(config)
        nodes = 3 * config.num_intervals
        assert config.decoder_stride is not None
        self.patch_embeddings = nn.Conv2d(4, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.backbone: EfficientNetLiteBackbone | None = None
        self.color_statistics: AICTColorStatistics | AICTRegionStatistics | None = None
        self.decoder: nn.ConvTranspose2d | AICTDecoder
        if config.backbone is None:
            if config.color_statistics:
                self.color_statistics = AICTColorStatistics(config)
        else:
            stages = BACKBONES[config.backbone]
            stride4, stride8, stride16, stride32 = (stages[number].channels for number in (1, 2, 4, 6))
            self.backbone = EfficientNetLiteBackbone(config.backbone)
            self.stride16_proj = nn.Conv2d(stride16, config.hidden_size, kernel_size=1)
            self.stride32_proj = nn.Conv2d(stride32, config.hidden_size, kernel_size=1)
            if config.color_statistics:
                self.color_statistics = AICTRegionStatistics(config, stride8 + stride16 + stride32)
        self.layers = nn.ModuleList([AICTLayer(config) for _ in range(config.num_hidden_layers)])
        if config.backbone is None:
            self.decoder = nn.ConvTranspose2d(
                config.hidden_size, config.decoder_channels, config.decoder_stride, stride=config.decoder_stride
            )
        else:
            self.decoder = AICTDecoder(config, stride4)
        self.sampling_intervals_head = nn.Conv2d(config.decoder_channels, nodes, kernel_size=1)
        self.color_lut_head = nn.Conv2d(config.decoder_channels, nodes, kernel_size=1)
        self.image_weight_head = AICTImageWeightHead(config)
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, output_loading_info: bool = False, **kwargs
    ):
        """Load a checkpoint, as `PreTrainedModel.from_pretrained` does, whole or not at all.

        Only safetensors are read, unless `use_safetensors=False` asks for pickles.

        Raises:
            ValueError: if weights are missing, left over or of other shapes than the config says (but for shapes where
                `ignore_mismatched_sizes=True`), or a file of the checkpoint lies outside its folder.
            OSError: if there is no such checkpoint.
        """
        _check_shards(pretrained_model_name_or_path)
        kwargs.setdefault("use_safetensors", True)
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        model, loading = loaded
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if loading[problem] and not (problem == "mismatched_keys" and kwargs.get("ignore_mismatched_sizes")):
                names = ", ".join(sorted(str(key) for key in loading[problem])[:3])
                reason = f"weights do not fit the config: {problem.replace('_', ' ')} {names}"
                raise ValueError(f"{pretrained_model_name_or_path}: {reason}")
        return (model, loading) if output_loading_info else model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """torch's default for linear and convolution weights, zero biases, and LUTs that start near the identity."""
        super()._init_weights(module)
        if not isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            return
        gain = 1.0
        if module is self.color_lut_head:
            gain = 0.3
            init.copy_(module.bias, torch.linspace(0, 1, self.config.num_intervals).repeat(3))  # type: ignore[arg-type]
        elif module is self.sampling_intervals_head:
            gain = 0.3
        elif isinstance(self.color_statistics, AICTRegionStatistics) and module is self.color_statistics.proj:
            gain = 0.1
        elif module is self.image_weight_head.proj:
            gain = 0.1
            init.ones_(module.bias)
        elif isinstance(self.decoder, AICTDecoder) and module is self.decoder.backbone_lateral:
            gain = 0.0  # the features are large: ordinary weights make the start worse than the composite for long
        elif isinstance(self.decoder, AICTDecoder) and module is self.decoder.image_lateral:
            gain = 0.1
        fan_in = module.weight.shape[0 if isinstance(module, nn.ConvTranspose2d) else 1] * module.weight[0, 0].numel()
        bound = gain * fan_in**-0.5
        init.uniform_(module.weight, -bound, bound)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        mask: Tensor,
        full_composites: Tensor | Sequence[Tensor] | None = None,
        full_masks: Tensor | Sequence[Tensor] | None = None,
        labels: Tensor | Sequence[Tensor] | None = None,
        *,
        return_harmonized: bool = True,
    ) -> AICTOutput:
        """Predict the LUTs, and apply them at low resolution and to the full-resolution photos that are given.

        Args:
            pixel_values: low-resolution composites, RGB in [0, 1], shape (B, 3, H, W) with H and W multiples of
                `config.size_divisor`; `AICTImageProcessor` makes them, with `mask`.
            mask: their foreground in [0, 1], shape (B, 1, H, W).
            full_composites: the photos at full resolution, float in [0, 1] (or uint8, without `labels`): a
                (B, 3, H, W) tensor or B tensors (3, H, W) of any sizes.
            full_masks: their foreground, a (B, 1, H, W) tensor or B tensors (1, H, W).
            labels: the real photos, float in [0, 1], shaped as `full_composites`.
            return_harmonized: False leaves out the low-resolution result, where only the LUTs are wanted (and the loss
                needs it).
        Returns:
            `AICTOutput`; `loss` is `harmonization_loss` with the paper's areas and weight.
        Raises:
            ValueError: if inputs do not fit one another or the config.
        Source: AICT (NeurIPS 2024), equations 1 to 9.
        """
        self._check_inputs(pixel_values, mask, full_composites, full_masks, labels)
        if labels is not None and not return_harmonized:
            raise ValueError("the loss needs the low-resolution result; leave out labels or return_harmonized=False")

        image = torch.cat([pixel_values, mask], dim=1).to(self.patch_embeddings.weight.dtype)
        patches = self.patch_embeddings(image)
        pretrained: tuple[EfficientNetLiteFeatures, ...] = ()
        if self.backbone is not None:
            pretrained = (self.backbone(pixel_values),)
            patches = patches + self.stride16_proj(pretrained[0].stride16)
            patches = patches + F.interpolate(
                self.stride32_proj(pretrained[0].stride32), scale_factor=2, mode="bilinear", align_corners=False
            )
        hidden_states = patches.flatten(2).transpose(1, 2)
        if self.color_statistics is not None:
            token, weight_change = self.color_statistics(pixel_values, mask, *pretrained)
            hidden_states = hidden_states + token[:, None]
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        encoded = hidden_states.transpose(1, 2).unflatten(2, patches.shape[2:])

        laterals = [] if self.backbone is None else [pretrained[0].stride4, image]
        decoded = self.decoder(encoded, *laterals)
        image_weight = self.image_weight_head(encoded)
        if self.color_statistics is not None:
            image_weight = image_weight + weight_change
        interval_logits = self.sampling_intervals_head(decoded)
        color_lut = self.color_lut_head(decoded) * image_weight.to(decoded.device)

        # From here in float32 at least: half precision would show as steps in smooth colours.
        dtype = torch.promote_types(torch.float32, color_lut.dtype)
        shape = (3, self.config.num_intervals)
        sampling_intervals = interval_logits.to(color_lut.device, dtype).unflatten(1, shape).softmax(dim=2)
        color_lut = color_lut.to(dtype).unflatten(1, shape)
        knots = knots_from_intervals(sampling_intervals)
        pixel_values, mask = pixel_values.to(knots.device), mask.to(knots.device)  # a device_map may split the model
        harmonized = apply_luts(pixel_values, mask, knots, color_lut) if return_harmonized else None

        full_harmonized: Tensor | list[Tensor] | None = None
        if isinstance(full_composites, Tensor) and isinstance(full_masks, Tensor):
            full_harmonized = apply_luts(full_composites, full_masks, knots, color_lut)
        elif full_composites is not None and full_masks is not None:
            full_harmonized = [
                apply_luts(photo[None], foreground[None], photo_knots[None], photo_lut[None])[0]
                for photo, foreground, photo_knots, photo_lut in zip(
                    full_composites, full_masks, knots, color_lut, strict=True
                )
            ]

        loss = None
        if labels is not None and full_harmonized is not None and harmonized is not None and full_masks is not None:
            loss = harmonization_loss(full_harmonized, labels, full_masks, harmonized, mask)

        return AICTOutput(
            loss=loss,
            sampling_intervals=sampling_intervals,
            knots=knots,
            color_lut=color_lut,
            image_weight=image_weight.to(dtype),
            harmonized=harmonized,
            full_harmonized=full_harmonized,
        )

    def _check_inputs(self, pixel_values, mask, full_composites, full_masks, labels) -> None:
        divisor = self.config.size_divisor
        sides = pixel_values.shape[2:]
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or any(side % divisor for side in sides):
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}; "
                f"expected (B, 3, H, W) with H and W multiples of {divisor} for this network"
            )
        if mask.shape != (pixel_values.shape[0], 1, *pixel_values.shape[2:]):
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}; "
                f"expected {(pixel_values.shape[0], 1, *pixel_values.shape[2:])} to fit pixel_values"
            )
        if (full_composites is None) != (full_masks is None):
            raise ValueError("full_composites and full_masks belong together; pass both or neither")
        for name, images in (("full_composites", full_composites), ("full_masks", full_masks), ("labels", labels)):
            if images is not None and len(images) != pixel_values.shape[0]:
                raise ValueError(
                    f"{name} holds {len(images)} images, pixel_values {pixel_values.shape[0]}; pass as many"
                )
        if labels is None:
            return
        if full_composites is None:
            raise ValueError("labels need full_composites and full_masks too; pass all three")
        for index, (composite, foreground, label) in enumerate(zip(full_composites, full_masks, labels, strict=True)):
            if label.shape != composite.shape:
                raise ValueError(
                    f"label {index} has shape {tuple(label.shape)}, its composite {tuple(composite.shape)}; "
                    "they must be equal"
                )
            if not (composite.is_floating_point() and foreground.is_floating_point() and label.is_floating_point()):
                raise ValueError(
                    "with labels, full_composites, full_masks and labels must be floats in [0, 1]; "
                    f"number {index} has dtypes {composite.dtype}, {foreground.dtype} and {label.dtype}"
                )


__all__ = ["AICTModel", "AICTOutput", "foreground_mse", "harmonization_loss"]
