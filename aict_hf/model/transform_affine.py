"""PCT-Net's pixel-wise colour transformation: `color_transform` "affine".

Each pixel has a map of its own, interpolated from a coarse parameter map. `affine_inputs` says of what. "linear" makes
an affine map of the colour. It mixes the channels, which the LUTs of AICT do not do. "polynomial" adds the squares and
products of the channels. "quadratic" makes a polynomial of each channel alone, without a constant.
"""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_aict import AICTConfig

INPUTS = {"linear": 4, "quadratic": 2, "polynomial": 10}  # for each output channel, the constant included


class AffineHead(nn.Module):
    """Makes the coefficients from the decoder features.

    Returns a tuple of one tensor, shape (B, 3, inputs, h, w): the weights of the inputs of each output channel.
    """

    def __init__(self, config: AICTConfig):
        super().__init__()
        self.inputs = INPUTS[config.affine_inputs]
        self.coefficients = nn.Conv2d(config.decoder_channels, 3 * self.inputs, kernel_size=1)

    def init_bias(self) -> None:
        """Start at the identity."""
        start = torch.eye(3, self.inputs)
        if self.inputs == INPUTS["quadratic"]:
            start = torch.tensor([1.0, 0.0]).expand(3, 2)
        init.copy_(self.coefficients.bias, start.flatten())  # type: ignore[arg-type]

    def forward(self, decoded: Tensor, weight: None) -> tuple[Tensor, ...]:
        """Make the coefficients of decoder features, shape (B, channels, h, w). There is no weight."""
        values = self.coefficients(decoded)
        return (values.to(torch.promote_types(torch.float32, values.dtype)).unflatten(1, (3, self.inputs)),)


def mixed_inputs(colors: Tensor, count: int) -> Tensor:
    """What each output channel mixes: the colour, its squares and products if `count` is 10, and 1.

    Args:
        colors: RGB, shape (B, 3, H, W).
        count: 4 or 10.
    Returns:
        r, g, b, (r², g², b², rg, gb, br,) 1, shape (B, count, H, W).
    """
    terms = [colors]
    if count == INPUTS["polynomial"]:
        terms += [colors**2, colors * colors.roll(-1, dims=1)]
    return torch.cat([*terms, torch.ones_like(colors[:, :1])], dim=1)


def affine_pixels(colors: Tensor, coefficients: Tensor) -> Tensor:
    """Transform each pixel by its own coefficients.

    Args:
        colors: RGB in [0, 1], shape (B, 3, H, W).
        coefficients: at the pixels, shape (B, 3, inputs, H, W).
    Returns:
        shape (B, 3, H, W), not yet clamped to 0..1.

    Source: Guerreiro, Nakazawa, Stenger: PCT-Net: Full Resolution Image Harmonization Using Pixel-Wise Color
        Transformations (CVPR 2023), section 3. Its polynomial has no constant.
    """
    count = coefficients.shape[2]
    if count == INPUTS["quadratic"]:
        return coefficients[:, :, 0] * colors + coefficients[:, :, 1] * colors**2
    return (coefficients * mixed_inputs(colors, count)[:, None]).sum(dim=2)


__all__ = ["INPUTS", "AffineHead", "affine_pixels", "mixed_inputs"]
