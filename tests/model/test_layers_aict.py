import numpy as np
import torch

from aict_hf.model.layers_aict import color_moments, region_means


def test_color_moments_are_those_of_the_weighted_pixels():
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(2, 3, 500, generator=generator) @ torch.rand(500, 500, generator=generator).softmax(0)
    colors = (colors - colors.amin()) / (colors.amax() - colors.amin())
    weight = (torch.rand(2, 1, 500, generator=generator) > 0.6).float()
    result = color_moments(colors, weight)
    for image in range(2):
        inside = colors[image][:, weight[image, 0] > 0]
        np.testing.assert_allclose(result[image, :3], 4 * inside.mean(1) - 2, atol=1e-3)
        np.testing.assert_allclose(result[image, 3:6], 8 * inside.std(1, correction=0) - 1.6, atol=1e-3)
        pairs = np.corrcoef(inside)[[0, 0, 1], [1, 2, 2]]
        np.testing.assert_allclose(result[image, 6:9], 2 * pairs - 1.4, atol=2e-2)
        skewness = ((inside - inside.mean(1, keepdim=True)) ** 3).mean(1) / inside.std(1, correction=0) ** 3
        np.testing.assert_allclose(result[image, 9:], skewness.clamp(-4, 4), atol=2e-2)


def test_region_means_are_those_of_the_pixels_inside_and_outside():
    features = torch.rand(1, 5, 4, 4)
    mask = torch.zeros(1, 1, 32, 32)
    mask[:, :, :16, 8:] = 1  # whole cells of 8 x 8
    cells = mask[0, 0, ::8, ::8] > 0
    inside, outside = features[0][:, cells].mean(dim=1), features[0][:, ~cells].mean(dim=1)
    expected = torch.cat([inside, outside, inside - outside])[None]
    torch.testing.assert_close(region_means(features, mask), expected, rtol=1e-3, atol=1e-4)
