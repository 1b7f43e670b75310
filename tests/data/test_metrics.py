import math

import pytest
import torch
from skimage.metrics import structural_similarity

from aict_hf.data.metrics import harmonization_metrics, photo_metrics


def make_pair(height=40, width=50):
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    result = (real.int() + torch.randint(-9, 30, real.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    mask = torch.zeros(1, height, width)
    mask[:, 10:30, 10:40] = 1
    return result, real, mask


def test_metrics_are_the_fields():
    result, real, mask = make_pair()
    metrics = harmonization_metrics(result, real, mask)
    squared = (result.double() - real.double()) ** 2
    inside = squared[:, 10:30, 10:40]
    assert metrics.fmse == pytest.approx(inside.mean().item())
    assert metrics.mse == pytest.approx(inside.sum().item() / squared.numel())
    assert metrics.psnr == pytest.approx(10 * math.log10(255**2 / metrics.mse))
    assert metrics.foreground_ratio == pytest.approx(0.3)
    pasted = torch.where(mask > 0, result, real)
    _, ssim = structural_similarity(
        pasted.numpy(),
        real.numpy(),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    expected = ssim.mean()  # over the whole image: the border, where libraries differ, is background
    assert metrics.ssim == pytest.approx(expected, abs=1e-4)


def test_what_lies_outside_the_mask_does_not_count():
    result, real, mask = make_pair()
    elsewhere = torch.where(mask > 0, result, 255 - real)
    assert harmonization_metrics(elsewhere, real, mask) == harmonization_metrics(result, real, mask)


def test_soft_masks_weight_each_pixels_error_once():
    result, real, mask = make_pair()
    half, full = harmonization_metrics(result, real, mask / 2), harmonization_metrics(result, real, mask)
    assert half.mse == pytest.approx(full.mse / 2)
    assert half.fmse == pytest.approx(full.fmse)
    levels = (mask * 255).to(torch.uint8)
    assert harmonization_metrics(result, real, levels) == full


def test_identical_photos_are_finite():
    _, real, mask = make_pair()
    metrics = harmonization_metrics(real, real, mask)
    assert (metrics.mse, metrics.fmse) == (0, 0)
    assert metrics.psnr == pytest.approx(108.13, abs=0.01)
    assert metrics.ssim == pytest.approx(1)


def test_an_empty_mask_is_no_error():
    result, real, mask = make_pair()
    assert harmonization_metrics(result, real, mask * 0).fmse == 0


def test_decoded_photos_are_measured_like_their_tensors():
    result, real, mask = make_pair()
    levels = (mask * 255).to(torch.uint8)
    photos = (image.permute(1, 2, 0).contiguous().numpy() for image in (result, real))
    assert photo_metrics(*photos, levels[0].numpy()) == harmonization_metrics(result, real, levels)


def test_inputs_that_do_not_fit_are_refused():
    result, real, mask = make_pair()
    with pytest.raises(ValueError, match="expected two uint8 images"):
        harmonization_metrics(result.float(), real, mask)
    with pytest.raises(ValueError, match="expected two uint8 images"):
        harmonization_metrics(result[:, :-1], real, mask)
    with pytest.raises(ValueError, match="mask has shape"):
        harmonization_metrics(result, real, mask[:, :-1])
