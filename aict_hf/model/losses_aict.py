"""Training losses of AICT."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .resizing import resize_image


def foreground_mse(prediction: Tensor, target: Tensor, mask: Tensor, *, min_area: float) -> Tensor:
    """Squared error per foreground pixel, averaged over the images.

    Args:
        prediction, target: RGB in [0, 1], shape (B, 3, H, W).
        mask: foreground in [0, 1], shape (B, 1, H, W).
        min_area: least area in pixels that an error is divided by, so that tiny foregrounds do not dominate.
    Returns:
        scalar: mean over B of sum((prediction - target)^2) / (3 * max(sum(mask), min_area)).
    Examples:
        >>> import torch
        >>> prediction, target = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 3, 4, 4)
        >>> foreground_mse(prediction, target, torch.ones(1, 1, 4, 4), min_area=1).item()
        0.25

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
    """The loss of the paper: `foreground_mse` at full resolution, plus a small share of it at low resolution.

    Args:
        full_harmonized, labels: results and real photos at full resolution, float in [0, 1], a (B, 3, H, W) tensor
            or B tensors (3, H, W) of any sizes.
        full_masks: foreground at full resolution in [0, 1], a (B, 1, H, W) tensor or B tensors (1, H, W).
        harmonized: low-resolution results, float in [0, 1], shape (B, 3, h, w).
        mask: low-resolution foreground in [0, 1], shape (B, 1, h, w).
        min_area: `min_area` of the full-resolution part.
        low_resolution_min_area: `min_area` of the low-resolution part.
        low_resolution_weight: weight of the low-resolution part.
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


__all__ = ["foreground_mse", "harmonization_loss"]
