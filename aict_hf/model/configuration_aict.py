"""Configuration of AICT (Adaptive-Interval Color Transformation, NeurIPS 2024)."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

Backbone = Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
AffineInputs = Literal["linear", "quadratic", "polynomial"]
ImageWeight = Literal["channels", "none", "spatial"]

TRANSFORMS = ("aict", "curves", "affine", "adaint_seplut", "filters")
LUT_KINDS = ("interval", "color")  # of which chains are made


@strict
class AICTConfig(PreTrainedConfig):
    r"""Configuration of an AICT network. The defaults are the network of the paper (5.18 M parameters).

    Args:
        image_size: side of the square low-resolution copies that the image processor makes, in pixels. The network
            takes any multiple of `size_divisor`.
        patch_size: side of an encoder patch, in low-resolution pixels.
        decoder_stride: kernel and stride of the transposed convolution that makes the LUT maps, which have
            `image_size / patch_size * decoder_stride` rows and columns. None means `patch_size`, as published.
        hidden_size: width of the transformer.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads per layer. `hidden_size` must be a multiple of it.
        intermediate_size: width of the feed-forward layers.
        hidden_act: activation of the feed-forward layers, a name that transformers knows.
        norm_first: apply layer norm before attention and feed-forward, and none at the end. False applies it after
            them, as published.
        color_statistics: add an embedding of the colour distributions of foreground, background and photo (means,
            standard deviations, correlations, skewness) to every patch. A small network learns them slowly by itself.
        backbone: pretrained convolutional network in front of the transformer; None as published. Its features are
            added to the patch tokens. Their means inside and outside the foreground are added to the colour statistics.
            A small decoder with lateral connections makes the LUT maps, a quarter of the image size. A backbone needs
            `patch_size` 16, `decoder_stride` 4 and image sides that are multiples of 32.
        decoder_hidden_size: channels inside the decoder, for networks with a backbone.
        statistics_dropout_prob: dropout of the backbone means in the statistics during training, 0 to 1.
        num_intervals: K, the sampling intervals per colour channel: the first LUT has K + 1 knots, the colour LUT K
            nodes.
        color_transform: what recolours the pixels. "aict" is the published one. The others serve comparisons and run in
            plain torch: "curves" (a colour LUT without sampling intervals), a list of "interval" and "color" (a chain
            of these LUTs, such as `["interval", "color", "interval", "color"]`), "affine" (PCT-Net), "adaint_seplut"
            (global 1D and 3D LUTs), "filters" (Harmonizer's global filters). Each is described in its file
            `transform_*.py`.
        affine_inputs: what the transform "affine" makes of a pixel's colour: an affine map ("linear"), one of its
            squares and products too ("polynomial"), or a quadratic polynomial of each channel alone ("quadratic").
        image_weight: "channels" weighs each node of the colour LUTs for the whole image, as published; "spatial" weighs
            each position of their maps instead; "none" weighs nothing. None means "channels" for LUTs and "none" for
            the other transforms, which have no such weights; see `weighting`.
        weighted_channels: the colour channels that `image_weight` "channels" weighs, some of "rgb".
        decoder_channels: channels of the decoder features that both LUT heads read.
        hidden_dropout_prob: dropout after attention and in the feed-forward layers during training, 0 to 1.
        attention_probs_dropout_prob: dropout of the attention weights during training, 0 to 1.
        layer_norm_eps: epsilon of the layer norms.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or value, or fields contradict each
            other.

    Source: AICT (NeurIPS 2024), section 3; `decoder_stride`, `norm_first`, `color_statistics` and `backbone`
        are additions of this package. The choices of `color_transform` and `image_weight` are those of its ablations.
    """

    model_type = "aict"
    # Trainer gathers the other outputs of an evaluation; the maps of one image take 2 to 20 MB.
    keys_to_ignore_at_inference = ["sampling_intervals", "knots", "color_lut", "image_weight", "transform_maps"]  # noqa: RUF012

    image_size: int = 256
    patch_size: int = 4
    decoder_stride: int | None = None
    hidden_size: int = 256
    num_hidden_layers: int = 9
    num_attention_heads: int = 2
    intermediate_size: int = 512
    hidden_act: str = "gelu"
    norm_first: bool = False
    color_statistics: bool = False
    backbone: Backbone | None = None
    decoder_hidden_size: int = 64
    statistics_dropout_prob: float | int = 0.0
    num_intervals: int = 8
    color_transform: str | list[str] = "aict"
    affine_inputs: AffineInputs = "linear"
    image_weight: ImageWeight | None = None
    weighted_channels: str = "rgb"
    decoder_channels: int = 12
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-5

    def __init_subclass__(cls, *args: Any, **kwargs: Any) -> None:
        super().__init_subclass__(*args, **kwargs)
        cls._auto_class = None  # saving a subclass must not copy the file that it is written in

    def __post_init__(self, **kwargs: Any) -> None:
        if self.decoder_stride is None:
            self.decoder_stride = self.patch_size
        super().__post_init__(**kwargs)

    def validate_positive(self) -> None:
        for name in (
            "image_size",
            "patch_size",
            "decoder_stride",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "decoder_channels",
            "decoder_hidden_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def validate_activation(self) -> None:
        if self.hidden_act not in ACT2FN:
            raise ValueError(
                f"hidden_act is {self.hidden_act!r}; expected one transformers knows, such as gelu or relu"
            )

    def validate_layer_norm_eps(self) -> None:
        if self.layer_norm_eps <= 0:
            raise ValueError(f"layer_norm_eps is {self.layer_norm_eps}; it must be above 0")

    def validate_width(self) -> None:
        if self.hidden_size < 4:
            raise ValueError(f"hidden_size is {self.hidden_size}; the image weights need at least 4")

    def validate_intervals(self) -> None:
        if self.num_intervals < 2:
            raise ValueError(f"num_intervals is {self.num_intervals}; a colour LUT needs at least 2 nodes")

    def validate_patches(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}; choose one that is"
            )

    def validate_image_size(self) -> None:
        if self.image_size < 2 * self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} holds fewer than 2 x 2 patches of patch_size {self.patch_size}; choose "
                "a larger image_size"
            )

    def validate_backbone(self) -> None:
        if self.backbone is None:
            return
        if (self.patch_size, self.decoder_stride) != (16, 4):
            raise ValueError(
                f"patch_size is {self.patch_size} and decoder_stride {self.decoder_stride}; "
                f"backbone {self.backbone} needs 16 and 4"
            )
        if self.image_size % self.size_divisor:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of {self.size_divisor}, "
                f"which backbone {self.backbone} needs; choose one that is"
            )

    def validate_heads(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )

    def validate_dropout(self) -> None:
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "statistics_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")

    def validate_color_transform(self) -> None:
        given = self.color_transform
        if isinstance(given, str):
            if given not in TRANSFORMS:
                raise ValueError(
                    f"color_transform is {given!r}; expected {', '.join(TRANSFORMS)}, or a list of interval and color"
                )
        elif unknown := [kind for kind in given if kind not in LUT_KINDS]:
            raise ValueError(f"color_transform lists {unknown[0]!r}; expected a list of interval and color")
        elif "color" not in given:
            raise ValueError(
                f"color_transform is {given}, without a colour LUT; sampling intervals serve one, so add color"
            )
        if self.affine_inputs != "linear" and given != "affine":
            raise ValueError(
                f"affine_inputs is {self.affine_inputs}; color_transform {given} has none, so leave it out"
            )

    def validate_image_weight(self) -> None:
        channels = self.weighted_channels
        if self.image_weight not in (None, "none") and not self.lut_chain:
            raise ValueError(
                f"image_weight is {self.image_weight}; color_transform {self.color_transform} has no colour LUT to "
                "weigh, so expected none"
            )
        if not channels or channels != "".join(channel for channel in "rgb" if channel in channels):
            raise ValueError(
                f"weighted_channels is {channels!r}; expected some of rgb in this order, such as gb, or image_weight "
                "none to weigh no channel"
            )
        if channels != "rgb" and self.weighting != "channels":
            raise ValueError(f"weighted_channels is {channels}; image_weight {self.weighting} weighs no channels")

    @property
    def transform_kind(self) -> str:
        """The file that holds the colour transformation: aict, chain, affine, adaint_seplut or filters."""
        if self.color_transform == "curves" or not isinstance(self.color_transform, str):
            return "chain"
        return self.color_transform

    @property
    def weighting(self) -> ImageWeight:
        """`image_weight`, or its default for the colour transformation."""
        if self.image_weight is not None:
            return self.image_weight
        return "channels" if self.lut_chain else "none"

    @property
    def lut_chain(self) -> list[str]:
        """The LUTs that a pixel's colour goes through: interval, color; none for other transforms."""
        if not isinstance(self.color_transform, str):
            return self.color_transform
        return {"aict": ["interval", "color"], "curves": ["color"]}.get(self.color_transform, [])

    @property
    def size_divisor(self) -> int:
        """Height and width of `pixel_values` must be multiples of this number."""
        return self.patch_size if self.backbone is None else 32

    @property
    def lut_size(self) -> int:
        """Rows (and columns) of the LUT maps for an input of `image_size`."""
        assert self.decoder_stride is not None  # set in __post_init__
        return self.image_size // self.patch_size * self.decoder_stride


__all__ = ["LUT_KINDS", "TRANSFORMS", "AICTConfig", "AffineInputs", "Backbone", "ImageWeight"]
