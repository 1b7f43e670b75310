"""Configuration of AICT (Adaptive-Interval Color Transformation, NeurIPS 2024)."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

Backbone = Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


@strict
class AICTConfig(PreTrainedConfig):
    r"""What an AICT checkpoint needs to be rebuilt. The defaults are the paper's network (5.18 M parameters).

    Args:
        image_size: side of the square low-resolution copies the network sees, in pixels. The network itself takes any
            multiple of `size_divisor`; this is the size the image processor makes.
        patch_size: side of an encoder patch, in low-resolution pixels.
        decoder_stride: kernel and stride of the transposed convolution that makes the LUT maps, which have
            `image_size / patch_size * decoder_stride` rows and columns. `None` stands for `patch_size`, as published.
        hidden_size: width of the transformer.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: attention heads per layer; divides `hidden_size`.
        intermediate_size: width of the feed-forward layers.
        hidden_act: activation of the feed-forward layers, a name transformers knows.
        norm_first: layer norm before attention and feed-forward (and none at the end) instead of after, as published.
        color_statistics: tell every patch how the colours of foreground, background and photo are distributed (means,
            spreads, correlations, skewness), which a small network takes long to find out by itself.
        backbone: convolutional network in front of the transformer, meant to be pretrained; None as published. Its
            features join the patch tokens. Their means inside and outside the foreground join the colour statistics. A
            small decoder with lateral connections makes the LUT maps, a quarter of the image's size. Needs `patch_size`
            16, `decoder_stride` 4 and images whose sides are multiples of 32.
        decoder_hidden_size: channels inside the decoder of networks with a backbone.
        statistics_dropout_prob: dropout of the backbone's means in the statistics while training, 0 to 1.
        num_intervals: K, the sampling intervals per colour channel: the first LUT has K + 1 knots, the colour LUT K
            nodes.
        decoder_channels: channels of the decoder features both LUT heads read.
        hidden_dropout_prob: dropout after attention and in the feed-forward layers while training, 0 to 1.
        attention_probs_dropout_prob: dropout of the attention weights while training, 0 to 1.
        layer_norm_eps: epsilon of the layer norms.

    Raises:
        huggingface_hub.errors.StrictDataclassError: where a field has the wrong type or the fields contradict one
            another.

    Source: AICT (NeurIPS 2024), section 3; `decoder_stride`, `norm_first`, `color_statistics` and `backbone`
        are generalisations of ours.
    """

    model_type = "aict"

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
    decoder_channels: int = 12
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-5

    def __post_init__(self, **kwargs):
        if self.decoder_stride is None:
            self.decoder_stride = self.patch_size
        super().__post_init__(**kwargs)

    def validate_positive(self):
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

    def validate_activation(self):
        if self.hidden_act not in ACT2FN:
            raise ValueError(
                f"hidden_act is {self.hidden_act!r}; expected one transformers knows, such as gelu or relu"
            )

    def validate_layer_norm_eps(self):
        if self.layer_norm_eps <= 0:
            raise ValueError(f"layer_norm_eps is {self.layer_norm_eps}; it must be above 0")

    def validate_width(self):
        if self.hidden_size < 4:
            raise ValueError(f"hidden_size is {self.hidden_size}; the image weights need at least 4")

    def validate_intervals(self):
        if self.num_intervals < 2:
            raise ValueError(f"num_intervals is {self.num_intervals}; a colour LUT needs at least 2 nodes")

    def validate_patches(self):
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}; choose one that is"
            )

    def validate_backbone(self):
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

    def validate_heads(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )

    def validate_dropout(self):
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "statistics_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")

    @property
    def size_divisor(self) -> int:
        """Height and width of `pixel_values` must be multiples of this."""
        return self.patch_size if self.backbone is None else 32

    @property
    def lut_size(self) -> int:
        """Rows (and columns) of the LUT maps for an input of `image_size`."""
        assert self.decoder_stride is not None  # set in __post_init__
        return self.image_size // self.patch_size * self.decoder_stride


__all__ = ["AICTConfig", "Backbone"]
