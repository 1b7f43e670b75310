"""Distances between a harmonized photo and the real one, in the metrics that harmonization papers report.

Source: the conventions of the iHarmony4 benchmark, as AICT (NeurIPS 2024), section 4.1, reports them.
Needs torchmetrics (`pip install "aict_hf[training]"`).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from ..model.color_difference import ciede2000, rgb_to_lab

LEAST_MSE = 1e-6  # keeps the PSNR of identical images finite, and so the averages that include it


@dataclass(frozen=True)
class HarmonizationMetrics:
    """Distances of one harmonized photo from the real one.

    Attributes:
        mse: mean over all pixels and channels of mask * (result - real)^2, 0..255 scale.
        fmse: the same sum divided by the foreground's area: sum / (3 * sum(mask) + 1e-6). Unlike the training loss
            `foreground_mse`, it weights errors by the mask, so the background does not count.
        psnr: 10 log10(255^2 / mse), in dB, at most 108.
        ssim: structural similarity (Gaussian window of 11 pixels, sigma 1.5, data range 255) between the real photo and
            the result pasted over the real background; equal photos have 1.
        ciede2000: mean colour difference over the foreground, weighted by the mask; about 1 is just visible.
        foreground_ratio: mean of the mask, 0 to 1.
    """

    mse: float
    fmse: float
    psnr: float
    ssim: float
    ciede2000: float
    foreground_ratio: float


def harmonization_metrics(result: Tensor, real: Tensor, mask: Tensor) -> HarmonizationMetrics:
    """Measure one harmonized photo.

    Args:
        result: the harmonized photo (or the composite), RGB uint8, shape (3, H, W), H and W at least 11.
        real: the real photo, of the same dtype and shape.
        mask: foreground, uint8 0..255 or float 0..1, shape (1, H, W). It weights the squared error of each pixel.
    Raises:
        ValueError: if shapes or dtypes are not these.
    Examples:
        >>> import torch
        >>> real, mask = torch.full((3, 16, 16), 100, dtype=torch.uint8), torch.ones(1, 16, 16)
        >>> metrics = harmonization_metrics(real + 10, real, mask)
        >>> round(metrics.fmse, 3), round(metrics.psnr, 2)
        (100.0, 28.13)
    """
    if result.dtype != torch.uint8 or real.dtype != torch.uint8 or result.shape != real.shape or result.ndim != 3:
        raise ValueError(
            f"result is {result.dtype} {tuple(result.shape)}, real {real.dtype} {tuple(real.shape)}; "
            "expected two uint8 images (3, H, W) of one size"
        )
    if mask.shape != (1, *real.shape[1:]):
        raise ValueError(f"mask has shape {tuple(mask.shape)}; expected {(1, *real.shape[1:])}")
    weight = mask.double() if mask.is_floating_point() else mask.double() / 255
    error = (weight * (result.double() - real.double()) ** 2).sum()
    mse = (error / real.numel()).item()
    pasted = (weight * result + (1 - weight) * real).round()
    ssim = structural_similarity_index_measure(
        pasted[None].float(), real[None].float(), kernel_size=11, sigma=1.5, data_range=255.0
    )
    assert isinstance(ssim, Tensor)
    return HarmonizationMetrics(
        mse=mse,
        fmse=(error / (3 * weight.sum() + 1e-6)).item(),
        psnr=10 * math.log10(255**2 / max(mse, LEAST_MSE)),
        ssim=ssim.item(),
        ciede2000=_foreground_ciede2000(result, real, weight),
        foreground_ratio=weight.mean().item(),
    )


def photo_metrics(result: np.ndarray, real: np.ndarray, mask: np.ndarray) -> HarmonizationMetrics:
    """`harmonization_metrics` of decoded photos, RGB uint8 (H, W, 3), and a mask, uint8 (H, W).

    Raises:
        ValueError: if shapes or dtypes are not these.
    """
    result_tensor, real_tensor = (torch.from_numpy(image).permute(2, 0, 1) for image in (result, real))
    return harmonization_metrics(result_tensor, real_tensor, torch.from_numpy(mask)[None])


def _foreground_ciede2000(result: Tensor, real: Tensor, weight: Tensor) -> float:
    inside = weight[0] > 0
    if not inside.any():
        return 0.0
    share = weight[0][inside].cpu().numpy()
    ours, truth = (rgb_to_lab((image[:, inside].double() / 255).cpu().numpy()) for image in (result, real))
    return float((share * ciede2000(ours, truth)).sum() / share.sum())


__all__ = ["HarmonizationMetrics", "harmonization_metrics", "photo_metrics"]
