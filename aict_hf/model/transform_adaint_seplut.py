"""Global LUTs of photo enhancement: `color_transform` "adaint_seplut".

One set of LUTs serves the whole image. A 1D LUT for each channel comes first, as in SepLUT. Then a 3D LUT mixes the
channels: a weighted sum of learned ones, whose vertices lie at adaptive distances, as in AdaInt.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from .configuration_aict import AICTConfig
from .lut_reference import knots_from_intervals, look_up

NODES_1D = 17
VERTICES = 17  # of the 3D LUT, along each channel
BASIS_LUTS = 3


class AdaIntSepLUTHead(nn.Module):
    """Makes the LUTs from the values of the global head.

    Returns three tensors: nodes of the 1D LUTs (B, 3, N, 1, 1), vertices along each channel (B, 3, V, 1, 1), and the
    3D LUT (B, 3, V * V * V, 1, 1), whose last part runs over blue fastest.
    """

    global_outputs = 3 * NODES_1D + 3 * (VERTICES - 1) + BASIS_LUTS

    def __init__(self, config: AICTConfig):
        super().__init__()
        self.basis = nn.Parameter(torch.empty(BASIS_LUTS, 3, VERTICES**3))

    def init_basis(self) -> None:
        """The first 3D LUT is the identity, and the others are small: a zero would keep its weight from learning."""
        level = torch.linspace(0, 1, VERTICES)
        identity = torch.stack(torch.meshgrid(level, level, level, indexing="ij")).flatten(1)
        others = 1e-3 * torch.randn(BASIS_LUTS - 1, *identity.shape)
        init.copy_(self.basis, torch.cat([identity[None], others]))

    def forward(self, values: Tensor, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Make the LUTs of the global head's values, shape (B, global_outputs, 1, 1). The image is not needed."""
        values = values.to(self.basis.device, torch.promote_types(torch.float32, values.dtype))
        curves, intervals, shares = values.split([3 * NODES_1D, 3 * (VERTICES - 1), BASIS_LUTS], dim=1)
        identity = torch.linspace(0, 1, NODES_1D, dtype=values.dtype, device=values.device)[:, None, None]
        vertices = knots_from_intervals(intervals.unflatten(1, (3, VERTICES - 1)).softmax(dim=2))
        # A share of 0 stands for the first LUT alone.
        first = torch.eye(1, BASIS_LUTS, dtype=values.dtype, device=values.device)
        # No einsum: autocast would compute it in half precision.
        lut = ((shares[:, :, 0, 0] + first)[..., None, None] * self.basis.to(values.dtype)).sum(dim=1)
        return curves.unflatten(1, (3, NODES_1D)) + identity, vertices, lut[..., None, None]


def adaint_seplut_pixels(colors: Tensor, curves: Tensor, vertices: Tensor, lut: Tensor) -> Tensor:
    """Look colours up in the 1D LUTs and then, trilinearly, in the 3D LUT.

    Args:
        colors: RGB in [0, 1], shape (B, 3, H, W).
        curves, vertices, lut: as `AdaIntSepLUTHead` returns them.
    Returns:
        shape (B, 3, H, W), not yet clamped to 0..1.

    Source: Yang et al.: SepLUT: Separable Image-adaptive Lookup Tables for Real-time Image Enhancement (ECCV 2022),
        section 3; Yang et al.: AdaInt: Learning Adaptive Intervals for 3D Lookup Tables on Real-time Image Enhancement
        (CVPR 2022), section 3.
    """
    redistributed = look_up(curves, colors).clamp(0, 1)
    # The place among vertices at unequal distances: each interval adds the share of it that lies below the colour.
    place = torch.zeros_like(redistributed)
    for node in range(VERTICES - 1):
        low, high = vertices[:, :, node], vertices[:, :, node + 1]
        place = place + ((redistributed - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    grid = (place * (2 / (VERTICES - 1)) - 1).flip(1).movedim(1, -1)[:, None]  # grid_sample names the last axis first
    cube = lut.reshape(lut.shape[0], 3, VERTICES, VERTICES, VERTICES)
    return F.grid_sample(cube, grid, mode="bilinear", padding_mode="border", align_corners=True)[:, :, 0]


__all__ = ["AdaIntSepLUTHead", "adaint_seplut_pixels"]
