"""PCT-Net's pixel-wise colour transformation: `color_transform` "affine".

Each pixel has an affine map of its own, interpolated from a coarse parameter map: the new colour is a weighted sum of
the old one, of its powers (`affine_inputs`) and of 1. All three channels mix, which the LUTs of AICT do not allow, and
the change within a pixel's neighbourhood is linear or quadratic in the colour.
"""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_aict import AICTConfig

INPUTS = {"linear": 4, "quadratic": 7, "polynomial": 10}  # for each output channel, the constant included


class AffineHead(nn.Module):
    """Makes the coefficients from the decoder features.

    Returns a tuple of one tensor, shape (B, 3, inputs, h, w): the weights of `affine_inputs` for each output channel.
    """

    def __init__(self, config: AICTConfig):
        super().__init__()
        self.inputs = INPUTS[config.affine_inputs]
        self.coefficients = nn.Conv2d(config.decoder_channels, 3 * self.inputs, kernel_size=1)

    def init_bias(self) -> None:
        """Start at the identity."""
        init.copy_(self.coefficients.bias, torch.eye(3, self.inputs).flatten())  # type: ignore[arg-type]

    def forward(self, decoded: Tensor, weight: Tensor | None, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Make the coefficients of decoder features, shape (B, channels, h, w); the rest is not used."""
        values = self.coefficients(decoded)
        return (values.to(torch.promote_types(torch.float32, values.dtype)).unflatten(1, (3, self.inputs)),)


def affine_inputs(colors: Tensor, count: int) -> Tensor:
    """What the coefficients weigh: the colour, with its squares if `count` is 7, and its products too if it is 10.

    Args:
        colors: RGB, shape (B, 3, H, W).
        count: 4, 7 or 10.
    Returns:
        r, g, b, (r², g², b², (rg, gb, br,)) 1, shape (B, count, H, W).
    """
    terms = [colors]
    if count > INPUTS["linear"]:
        terms.append(colors**2)
    if count > INPUTS["quadratic"]:
        terms.append(colors * colors.roll(-1, dims=1))
    return torch.cat([*terms, torch.ones_like(colors[:, :1])], dim=1)


def affine_pixels(colors: Tensor, coefficients: Tensor) -> Tensor:
    """Transform each pixel by its own coefficients.

    Args:
        colors: RGB in [0, 1], shape (B, 3, H, W).
        coefficients: at the pixels, shape (B, 3, inputs, H, W).
    Returns:
        shape (B, 3, H, W), not yet clamped to 0..1.

    Source: Guerreiro, Nakazawa, Stenger: PCT-Net: Full Resolution Image Harmonization Using Pixel-Wise Color
        Transformations (CVPR 2023), section 3.
    """
    return (coefficients * affine_inputs(colors, coefficients.shape[2])[:, None]).sum(dim=2)


__all__ = ["AffineHead", "affine_inputs", "affine_pixels"]
