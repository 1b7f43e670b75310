"""PyTorch model of AICT (Adaptive-Interval Color Transformation, NeurIPS 2024) for image harmonization."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .backbone_efficientnet import BACKBONES, EfficientNetLiteBackbone, EfficientNetLiteFeatures
from .color_transform import HEADS, apply_transform
from .configuration_aict import AICTConfig
from .layers_aict import AICTColorStatistics, AICTDecoder, AICTGlobalHead, AICTLayer, AICTRegionStatistics
from .losses_aict import harmonization_loss
from .lut_reference import knots_from_intervals
from .transform_adaint_seplut import AdaIntSepLUTHead
from .transform_affine import AffineHead
from .transform_chain import LUTChainHead


@dataclass
class AICTOutput(ModelOutput):
    """Output of `AICTModel`. K is `config.num_intervals`; h and w are the size of the LUT maps. Maps are float32.

    Attributes:
        loss: loss of the paper, scalar; None without `labels`.
        sampling_intervals: positive, sum to 1 over K, shape (B, 3, K, h, w).
        knots: running sums of the sampling intervals, 0 to 1: nodes of the first LUT, shape (B, 3, K + 1, h, w).
        color_lut: nodes of the colour LUT, already weighted, shape (B, 3, K, h, w).
        image_weight: global weights of the nodes in `color_lut`, colour channel major, shape (B, 3 * K, 1, 1); with
            `config.image_weight` "spatial" weights of the positions, shape (B, 1, h, w), with "none" None.
        harmonized: low-resolution result in [0, 1], shape and dtype of `pixel_values`; None with
            `return_harmonized=False`.
        full_harmonized: full-resolution results: a tensor for a tensor of `full_composites`, a list of (3, H, W)
            tensors for a list; None without `full_composites`.
        hidden_states: tokens before the first transformer layer and after each layer, shape (B, tokens, hidden_size);
            None unless asked for.
        attentions: attention weights of each layer, shape (B, heads, tokens, tokens); None unless asked for.
        transform_maps: what a `config.color_transform` other than "aict" takes, as its file `transform_*.py` says; then
            `sampling_intervals`, `knots` and `color_lut` are None.
    """

    loss: Tensor | None = None
    sampling_intervals: Tensor | None = None
    knots: Tensor | None = None
    color_lut: Tensor | None = None
    image_weight: Tensor | None = None
    harmonized: Tensor | None = None
    full_harmonized: Tensor | list[Tensor] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    transform_maps: tuple[Tensor, ...] | None = None

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """What `apply_transform` takes: `knots` and `color_lut`, or `transform_maps`."""
        if self.transform_maps is not None:
            return self.transform_maps
        assert self.knots is not None
        assert self.color_lut is not None
        return self.knots, self.color_lut


class _Encoded(NamedTuple):
    """What the decoder and the heads read.

    Attributes:
        features: the last tokens as a map, shape (B, hidden_size, H / patch_size, W / patch_size).
        laterals: with a backbone, its features at stride 4 and the image with its mask.
        statistics_change: what the colour statistics add to the values for the whole image, shape (B, n, 1, 1).
        hidden_states, attentions: as in `AICTOutput`.
    """

    features: Tensor
    laterals: tuple[Tensor, ...]
    statistics_change: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class _Decoded(NamedTuple):
    """What the colour transformation takes, and its parts, as in `AICTOutput`."""

    maps: tuple[Tensor, ...]
    image_weight: Tensor | None = None
    sampling_intervals: Tensor | None = None


def _check_shards(folder: str | os.PathLike | None, subfolder: str = "", config: Any = None) -> None:
    """Refuse a folder if an index of weights that loading may read names files outside.

    Args:
        folder: folder to load; a name on the Hub is not checked.
        subfolder: the folder in it that holds the weights.
        config: the argument of `from_pretrained`.
    Raises:
        ValueError: if an index is damaged or names a file in another folder.
    """
    if folder is None or not Path(folder).is_dir():
        return
    weights = Path(folder, subfolder)
    indices = {*weights.glob("*.safetensors.index*.json"), *weights.glob("*.bin.index*.json")}
    if isinstance(config, PreTrainedConfig):
        named = getattr(config, "transformers_weights", None)
    else:
        source = Path(folder if config is None else config, subfolder)
        file = source if source.is_file() else source / "config.json"
        fields = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        named = fields.get("transformers_weights") if isinstance(fields, dict) else None
    if isinstance(named, str) and named.endswith(".json") and (weights / named).is_file():
        indices.add(weights / named)  # it may lie in a folder below
    for index in sorted(indices):
        shards = json.loads(index.read_text(encoding="utf-8"))
        names = shards.get("weight_map") if isinstance(shards, dict) else None
        if not isinstance(names, dict):
            raise ValueError(f"{index}: is not an index of weights; expected a JSON object with a weight_map")
        for name in names.values():
            if Path(str(name)).name != name:
                raise ValueError(
                    f"{index}: names {name!r}, outside its folder; expected names of files in the same folder"
                )


class AICTModel(PreTrainedModel):
    """Predicts the LUTs that harmonize a foreground, from a composite and its foreground mask.

    Source: AICT (NeurIPS 2024), section 3 and figure 2.
    """

    config: AICTConfig
    config_class = AICTConfig
    base_model_prefix = "aict"
    main_input_name = "pixel_values"
    input_modalities = "image"
    _input_embed_layer = "patch_embeddings"
    supports_gradient_checkpointing = True
    _no_split_modules = [  # noqa: RUF012  as transformers declares it
        *("AICTLayer", "AICTGlobalHead"),
        *("EfficientNetLiteBackbone", "AICTRegionStatistics", "AICTDecoder"),
        *("LUTChainHead", "AdaIntSepLUTHead"),
    ]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._auto_class = None  # saving a subclass must not copy the file that it is written in

    def __init__(self, config: AICTConfig):
        config.validate()  # arguments of `from_pretrained` change fields without it
        super().__init__(config)
        nodes = 3 * config.num_intervals
        assert config.decoder_stride is not None
        head = None if config.transform_kind == "aict" else HEADS[config.transform_kind]
        global_outputs = getattr(head, "global_outputs", 0)
        weights = 0
        if config.weighting == "channels":
            weights = config.lut_chain.count("color") * len(config.weighted_channels) * config.num_intervals
        self.patch_embeddings = nn.Conv2d(4, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.backbone: EfficientNetLiteBackbone | None = None
        self.color_statistics: AICTColorStatistics | AICTRegionStatistics | None = None
        if config.backbone is None:
            if config.color_statistics:
                self.color_statistics = AICTColorStatistics(config, weights + global_outputs)
        else:
            stages = BACKBONES[config.backbone]
            stride4, stride8, stride16, stride32 = (stages[number].channels for number in (1, 2, 4, 6))
            self.backbone = EfficientNetLiteBackbone(config.backbone)
            self.stride16_proj = nn.Conv2d(stride16, config.hidden_size, kernel_size=1)
            self.stride32_proj = nn.Conv2d(stride32, config.hidden_size, kernel_size=1)
            if config.color_statistics:
                channels = stride8 + stride16 + stride32
                self.color_statistics = AICTRegionStatistics(config, channels, weights + global_outputs)
        self.layers = nn.ModuleList([AICTLayer(config) for _ in range(config.num_hidden_layers)])
        self.decoder: Any = None  # not for what is the same everywhere: it needs no maps
        if not global_outputs and config.backbone is None:
            self.decoder = nn.ConvTranspose2d(
                config.hidden_size, config.decoder_channels, config.decoder_stride, stride=config.decoder_stride
            )
        elif not global_outputs:
            self.decoder = AICTDecoder(config, stride4)
        self.sampling_intervals_head: Any = None
        self.color_lut_head: Any = None
        self.transform_head: Any = None
        self.image_weight_head: Any = None
        self.global_head: Any = None
        if head is None:
            self.sampling_intervals_head = nn.Conv2d(config.decoder_channels, nodes, kernel_size=1)
            self.color_lut_head = nn.Conv2d(config.decoder_channels, nodes, kernel_size=1)
        else:
            self.transform_head = head(config)
        if weights:
            self.image_weight_head = AICTGlobalHead(config, weights)
        elif config.weighting == "spatial":
            self.image_weight_head = nn.Conv2d(config.decoder_channels, 1, kernel_size=1)
        if global_outputs:
            self.global_head = AICTGlobalHead(config, global_outputs)
        self.post_init()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint as `PreTrainedModel.from_pretrained` does, but refuse weights that do not fit the config.

        `output_loading_info=True` refuses no weights, and returns the model and a dict of `missing_keys`,
        `unexpected_keys` and so on. Subclasses load as other models of transformers do: missing weights are
        initialized, and transformers logs their names.

        Only safetensors files are read, unless `use_safetensors=False` asks for pickles.

        Raises:
            ValueError: if weights are missing, unexpected or of the wrong shape (`ignore_mismatched_sizes=True` allows
                wrong shapes), or if a file of the checkpoint lies outside its folder.
            OSError: if there is no such checkpoint.
        """
        _check_shards(pretrained_model_name_or_path, kwargs.get("subfolder") or "", kwargs.get("config"))
        kwargs.setdefault("use_safetensors", True)
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        if output_loading_info:
            return loaded
        model, loading = loaded
        if cls is not AICTModel:
            return model
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if loading[problem] and not (problem == "mismatched_keys" and kwargs.get("ignore_mismatched_sizes")):
                names = ", ".join(sorted(str(key) for key in loading[problem])[:3])
                raise ValueError(
                    f"{pretrained_model_name_or_path}: weights do not fit the config: {problem.replace('_', ' ')} "
                    f"{names}; load a checkpoint that fits, or pass output_loading_info=True to see all names and go on"
                )
        return model

    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, variant: str | None = None, **kwargs: Any
    ) -> None:
        """Save weights, config and code as `PreTrainedModel.save_pretrained` does; no code with a subclass."""
        if self._auto_class is None:
            vars(self.config).pop("auto_map", None)  # from the checkpoint it was loaded from; the code stays there
        # diffusers saves a variant only where the signature has that name.
        super().save_pretrained(save_directory, *args, variant=variant, **kwargs)  # type: ignore[misc]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Use torch's default for linear and convolution weights, zero biases, and LUTs close to the identity."""
        super()._init_weights(module)
        if isinstance(module, AdaIntSepLUTHead):
            module.init_basis()
        if not isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            return
        gain = 1.0
        if module in self._lut_heads("color"):
            gain = 0.3
            init.copy_(module.bias, torch.linspace(0, 1, self.config.num_intervals).repeat(3))  # type: ignore[arg-type]
        elif module in self._lut_heads("interval"):
            gain = 0.3
        elif isinstance(self.color_statistics, AICTRegionStatistics) and module is self.color_statistics.proj:
            gain = 0.1
        elif module is self.image_weight_head or (
            isinstance(self.image_weight_head, AICTGlobalHead) and module is self.image_weight_head.proj
        ):
            gain = 0.1
            init.ones_(module.bias)
        elif self.global_head is not None and module is self.global_head.proj:
            gain = 0.1
        elif isinstance(self.transform_head, AffineHead) and module is self.transform_head.coefficients:
            gain = 0.3
            self.transform_head.init_bias()
        elif isinstance(self.decoder, AICTDecoder) and module is self.decoder.backbone_lateral:
            gain = 0.0  # the features are large: ordinary weights would start training far from the identity
        elif isinstance(self.decoder, AICTDecoder) and module is self.decoder.image_lateral:
            gain = 0.1
        fan_in = module.weight.shape[0 if isinstance(module, nn.ConvTranspose2d) else 1] * module.weight[0, 0].numel()
        bound = gain * fan_in**-0.5
        init.uniform_(module.weight, -bound, bound)

    def _lut_heads(self, kind: str) -> list[nn.Module | None]:
        """The layers that make the LUTs of a kind, "interval" or "color"."""
        if isinstance(self.transform_head, LUTChainHead):
            return [
                head for own, head in zip(self.config.lut_chain, self.transform_head.luts, strict=True) if own == kind
            ]
        return [self.color_lut_head if kind == "color" else self.sampling_intervals_head]

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
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> AICTOutput:
        """Predict the LUTs, and apply them to the low-resolution composites and to `full_composites`.

        Args:
            pixel_values: low-resolution composites, RGB in [0, 1], shape (B, 3, H, W) with H and W multiples of
                `config.size_divisor`. `AICTImageProcessor` makes them, and `mask`.
            mask: low-resolution foreground in [0, 1], shape (B, 1, H, W).
            full_composites: composites at full resolution, float in [0, 1] (or uint8, without `labels`): a
                (B, 3, H, W) tensor or B tensors (3, H, W) of any sizes.
            full_masks: foreground at full resolution, a (B, 1, H, W) tensor or B tensors (1, H, W).
            labels: real photos at full resolution, float in [0, 1], in the shapes of `full_composites`.
            return_harmonized: if False, leave out the low-resolution result. The loss needs it.
            output_hidden_states: return the tokens too; None means `config.output_hidden_states`.
            output_attentions: return the attention weights too, which the eager implementation then computes if the
                chosen one keeps none; None means `config.output_attentions`.
        Returns:
            `AICTOutput`; `loss` is `harmonization_loss` with the areas and the weight of the paper.
        Raises:
            ValueError: if the inputs do not fit each other or the config.
        Examples:
            >>> import torch
            >>> from aict_hf import AICTConfig, AICTModel
            >>> config = AICTConfig(image_size=32, hidden_size=16, num_hidden_layers=1, intermediate_size=16)
            >>> outputs = AICTModel(config).eval()(torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32))
            >>> outputs.knots.shape
            torch.Size([1, 3, 9, 32, 32])

        Source: AICT (NeurIPS 2024), equations 1 to 9.
        """
        self._check_inputs(pixel_values, mask, full_composites, full_masks, labels)
        if labels is not None and not return_harmonized:
            raise ValueError("the loss needs the low-resolution result; leave out labels or return_harmonized=False")

        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions

        encoded = self._encode(pixel_values, mask, bool(output_hidden_states), bool(output_attentions))
        decoded = self._decode(encoded, pixel_values)
        kind, maps = self.config.transform_kind, decoded.maps
        device = maps[0].device  # a device_map may split the model
        pixel_values, mask = pixel_values.to(device), mask.to(device)
        harmonized = apply_transform(kind, pixel_values, mask, *maps) if return_harmonized else None

        full_harmonized: Tensor | list[Tensor] | None = None
        if isinstance(full_composites, Tensor) and isinstance(full_masks, Tensor):
            full_harmonized = apply_transform(kind, full_composites, full_masks, *maps)
        elif full_composites is not None and full_masks is not None:
            full_harmonized = [
                apply_transform(kind, photo[None], foreground[None], *(values[None] for values in own))[0]
                for photo, foreground, *own in zip(full_composites, full_masks, *maps, strict=True)
            ]

        loss = None
        if labels is not None and full_harmonized is not None and harmonized is not None and full_masks is not None:
            loss = harmonization_loss(full_harmonized, labels, full_masks, harmonized, mask)

        weight = decoded.image_weight
        knots, color_lut = maps if kind == "aict" else (None, None)
        return AICTOutput(
            loss=loss,
            sampling_intervals=decoded.sampling_intervals,
            knots=knots,
            color_lut=color_lut,
            image_weight=None if weight is None else weight.to(maps[0].dtype),
            harmonized=harmonized,
            full_harmonized=full_harmonized,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            transform_maps=None if kind == "aict" else maps,
        )

    def _encode(
        self, pixel_values: Tensor, mask: Tensor, output_hidden_states: bool, output_attentions: bool
    ) -> _Encoded:
        """Run all that comes before the decoder."""
        image = torch.cat([pixel_values, mask], dim=1).to(self.patch_embeddings.weight.dtype)
        patches = self.patch_embeddings(image)
        pretrained: tuple[EfficientNetLiteFeatures, ...] = ()
        laterals: tuple[Tensor, ...] = ()
        if self.backbone is not None:
            features = self.backbone(pixel_values)
            pretrained, laterals = (features,), (features.stride4, image)
            patches = patches + self.stride16_proj(features.stride16)
            patches = patches + F.interpolate(
                self.stride32_proj(features.stride32), scale_factor=2, mode="bilinear", align_corners=False
            )
        hidden_states = patches.flatten(2).transpose(1, 2)
        statistics_change = None
        if self.color_statistics is not None:
            token, statistics_change = self.color_statistics(pixel_values, mask, *pretrained)
            hidden_states = hidden_states + token[:, None]
        all_hidden_states: tuple[Tensor, ...] | None = (hidden_states,) if output_hidden_states else None
        attentions: tuple[Tensor, ...] | None = () if output_attentions else None
        for layer in self.layers:
            hidden_states, weights = layer(hidden_states, output_attentions)
            all_hidden_states = None if all_hidden_states is None else (*all_hidden_states, hidden_states)
            attentions = None if attentions is None else (*attentions, weights)
        grid = hidden_states.transpose(1, 2).unflatten(2, patches.shape[2:])
        return _Encoded(grid, laterals, statistics_change, all_hidden_states, attentions)

    def _decode(self, encoded: _Encoded, pixel_values: Tensor) -> _Decoded:
        """Predict what the colour transformation takes."""
        if self.global_head is not None:
            return _Decoded(self.transform_head(self._global_values(self.global_head, encoded), pixel_values))
        features = self.decoder(encoded.features, *encoded.laterals)
        image_weight: Tensor | None = None
        if self.config.weighting == "channels":
            image_weight = self._weights_of_all_channels(self._global_values(self.image_weight_head, encoded))
        elif self.config.weighting == "spatial":
            image_weight = self.image_weight_head(features)
        if self.transform_head is not None:
            return _Decoded(self.transform_head(features, image_weight), image_weight)

        interval_logits = self.sampling_intervals_head(features)
        color_lut = self.color_lut_head(features)
        if image_weight is not None:
            color_lut = color_lut * image_weight.to(features.device)
        # At least float32 from here on: half precision would show as steps in smooth colours.
        dtype = torch.promote_types(torch.float32, color_lut.dtype)
        shape = (3, self.config.num_intervals)
        sampling_intervals = interval_logits.to(color_lut.device, dtype).unflatten(1, shape).softmax(dim=2)
        knots = knots_from_intervals(sampling_intervals)
        return _Decoded((knots, color_lut.to(dtype).unflatten(1, shape)), image_weight, sampling_intervals)

    def _global_values(self, head: nn.Module, encoded: _Encoded) -> Tensor:
        """What a head predicts for the whole image, with what the colour statistics add to it."""
        values = head(encoded.features)
        return values if encoded.statistics_change is None else values + encoded.statistics_change

    def _weights_of_all_channels(self, image_weight: Tensor) -> Tensor:
        """Weights (B, n, 1, 1) of the weighted channels with ones for the others: (B, colour LUTs * 3 * K, 1, 1)."""
        if self.config.weighted_channels == "rgb":
            return image_weight
        nodes = self.config.num_intervals
        weighted = iter(image_weight.split(nodes, dim=1))
        ones = torch.ones_like(image_weight[:, :nodes])
        channels = "rgb" * self.config.lut_chain.count("color")
        return torch.cat(
            [next(weighted) if channel in self.config.weighted_channels else ones for channel in channels], dim=1
        )

    def _check_inputs(
        self,
        pixel_values: Tensor,
        mask: Tensor,
        full_composites: Tensor | Sequence[Tensor] | None,
        full_masks: Tensor | Sequence[Tensor] | None,
        labels: Tensor | Sequence[Tensor] | None,
    ) -> None:
        divisor = self.config.size_divisor
        sides = pixel_values.shape[2:]
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or any(side % divisor for side in sides):
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}; "
                f"expected (B, 3, H, W) with H and W multiples of {divisor} for this network"
            )
        if not (pixel_values.is_floating_point() and mask.is_floating_point()):
            raise ValueError(
                f"pixel_values has dtype {pixel_values.dtype}, mask {mask.dtype}; expected floats in [0, 1], as the "
                "image processor makes them"
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
        if full_composites is None or full_masks is None:
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


__all__ = ["AICTModel", "AICTOutput"]
