"""Chains of position-dependent LUTs: `color_transform` "curves", or a list of "interval" and "color".

A pixel's colour goes through the LUTs in their order. "interval" has increasing nodes from 0 to 1, as the first LUT of
AICT, and "color" has free ones. `["interval", "color"]` computes what "aict" does, without its kernels.
"""

import torch
from torch import Tensor, nn

from .configuration_aict import AICTConfig
from .lut_reference import knots_from_intervals, look_up


class LUTChainHead(nn.Module):
    """Makes the LUT maps of a chain from the decoder features.

    Returns one tensor for each LUT: knots, shape (B, 3, K + 1, h, w), or nodes of a colour LUT, shape (B, 3, K, h, w).
    """

    def __init__(self, config: AICTConfig):
        super().__init__()
        self.kinds = config.lut_chain
        self.num_intervals = config.num_intervals
        nodes = 3 * config.num_intervals
        self.luts = nn.ModuleList([nn.Conv2d(config.decoder_channels, nodes, kernel_size=1) for _ in self.kinds])

    def forward(self, decoded: Tensor, weight: Tensor | None) -> tuple[Tensor, ...]:
        """Make the maps.

        Args:
            decoded: decoder features, shape (B, channels, h, w).
            weight: `image_weight`, shape (B, colour LUTs * 3 * K, 1, 1) or (B, 1, h, w), or None.
        """
        nodes = 3 * self.num_intervals
        color_luts = 0
        maps = []
        for kind, head in zip(self.kinds, self.luts, strict=True):
            values = head(decoded)
            if kind == "color" and weight is not None:
                own = weight if weight.shape[1] == 1 else weight[:, color_luts * nodes : (color_luts + 1) * nodes]
                values = values * own.to(values.device)
                color_luts += 1
            values = values.to(torch.promote_types(torch.float32, values.dtype)).unflatten(1, (3, self.num_intervals))
            maps.append(knots_from_intervals(values.softmax(dim=2)) if kind == "interval" else values)
        return tuple(maps)


def chain_pixels(colors: Tensor, *luts: Tensor) -> Tensor:
    """Look colours up in one LUT after the other.

    Args:
        colors: RGB in [0, 1], shape (B, 3, H, W).
        luts: nodes of each LUT at the pixels, at equal distances from 0 to 1, shape (B, 3, N, H, W).
    Returns:
        shape (B, 3, H, W), not yet clamped to 0..1.

    Source: AICT (NeurIPS 2024), section 3.2 and the ablations of section 4.
    """
    for nodes in luts:
        colors = look_up(nodes, colors)
    return colors


__all__ = ["LUTChainHead", "chain_pixels"]
