"""Harmonizer's six white-box filters: `color_transform` "filters".

Temperature, brightness, contrast, saturation, highlight and shadow change the whole image, one after the other, each by
one argument from -1 to 1; 0 changes nothing. Temperature and contrast refer to means of the image. They are taken from
the low-resolution composite, so that a photo may be recoloured in parts.
"""

import torch
from torch import Tensor, nn

from .configuration_aict import AICTConfig

EPSILON = 1e-6
LIMIT = 0.98  # of the arguments: at 1 the filters divide by 0


class FiltersHead(nn.Module):
    """Makes the arguments of the filters from the values of the global head.

    Returns two tensors: the arguments in the order of the filters, shape (B, 6, 1, 1), and the means that temperature
    (red, green, blue) and contrast refer to, shape (B, 4, 1, 1).
    """

    global_outputs = 6

    def __init__(self, config: AICTConfig):
        super().__init__()

    def forward(self, values: Tensor, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Make the arguments.

        Args:
            values: of the global head, shape (B, 6, 1, 1).
            pixel_values: low-resolution composites, RGB in [0, 1], shape (B, 3, h, w).
        """
        arguments = LIMIT * values.to(torch.promote_types(torch.float32, values.dtype)).tanh()
        colors = pixel_values.to(arguments.device, arguments.dtype)
        means = colors.mean(dim=(2, 3), keepdim=True)
        warmed = brightness(temperature(colors, arguments[:, 0:1], means), arguments[:, 1:2])
        return arguments, torch.cat([means, warmed.mean(dim=(1, 2, 3), keepdim=True)], dim=1)


def temperature(colors: Tensor, argument: Tensor, means: Tensor) -> Tensor:
    """Shift the grey-world balance: below 0 as if the photo had more red, above 0 as if it had more blue."""
    shift = torch.cat([(-argument).clamp(min=0), argument.abs() / 2, argument.clamp(min=0)], dim=1)
    shifted = means + shift
    gain, shifted_gain = (
        levels.mean(dim=1, keepdim=True) / (levels + EPSILON) for levels in (means, shifted)
    )  # which would make the channels equal
    return (colors * (1 + shifted_gain - gain)).clamp(0, 1)


def brightness(colors: Tensor, argument: Tensor) -> Tensor:
    """Scale HSV's value, and with it all channels alike."""
    gain = torch.where(argument >= 0, 1 / (1 - argument.clamp(min=0)), 1 + argument)
    return (colors * gain).clamp(0, 1)


def contrast(colors: Tensor, argument: Tensor, mean: Tensor) -> Tensor:
    """Stretch the colours around the mean of the image."""
    gain = torch.where(argument > 0, 1 / (1 - argument.clamp(min=0)) - 1, argument)
    return (colors + (colors - mean) * gain).clamp(0, 1)


def saturation(colors: Tensor, argument: Tensor) -> Tensor:
    """Stretch the channels of a pixel around HSL's lightness, up to full saturation."""
    low, high = colors.amin(dim=1, keepdim=True), colors.amax(dim=1, keepdim=True)
    total = low + high
    share = (high - low) / (torch.where(total < 1, total, 2 - total) + EPSILON)
    rest = torch.where(argument + share > 1, share, 1 - argument.clamp(min=0))
    gain = torch.where(argument >= 0, 1 / (rest + EPSILON) - 1, argument)
    return (colors + (colors - total / 2) * gain).clamp(0, 1)


def highlight(colors: Tensor, argument: Tensor) -> Tensor:
    """Bend the bright end of the curve."""
    return 1 - (1 - colors + EPSILON).clamp(max=1) ** (1 + argument)


def shadow(colors: Tensor, argument: Tensor) -> Tensor:
    """Bend the dark end of the curve."""
    return (colors + EPSILON).clamp(max=1) ** (1 - argument)


def filter_pixels(colors: Tensor, arguments: Tensor, means: Tensor) -> Tensor:
    """Apply the six filters in their order.

    Args:
        colors: RGB in [0, 1], shape (B, 3, H, W).
        arguments, means: as `FiltersHead` returns them.
    Returns:
        RGB in [0, 1], shape (B, 3, H, W).

    Source: Ke et al.: Harmonizer: Learning to Perform White-Box Image and Video Harmonization (ECCV 2022), section 3.
        Its positive contrast rounds the argument down to 1/255, which has no gradient; here it is smooth.
    """
    colors = temperature(colors, arguments[:, 0:1], means[:, :3])
    colors = brightness(colors, arguments[:, 1:2])
    colors = contrast(colors, arguments[:, 2:3], means[:, 3:4])
    colors = saturation(colors, arguments[:, 3:4])
    colors = highlight(colors, arguments[:, 4:5])
    return shadow(colors, arguments[:, 5:6])


__all__ = ["FiltersHead", "brightness", "contrast", "filter_pixels", "highlight", "saturation", "shadow", "temperature"]
