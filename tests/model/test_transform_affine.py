import numpy as np
import pytest
import torch

from aict_hf.model.transform_affine import INPUTS, affine_pixels, mixed_inputs


def test_pixels_are_the_products_of_their_matrices():
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(2, 3, 4, 5, generator=generator)
    coefficients = torch.randn(2, 3, 4, 4, 5, generator=generator)
    found = affine_pixels(colors, coefficients)
    pixel = np.append(colors[1, :, 2, 3].numpy(), 1)
    np.testing.assert_allclose(found[1, :, 2, 3].numpy(), coefficients[1, :, :, 2, 3].numpy() @ pixel, atol=1e-6)


def test_inputs_are_the_colour_its_squares_its_products_and_one():
    colors = torch.tensor([0.2, 0.5, 0.8]).reshape(1, 3, 1, 1)
    found = mixed_inputs(colors, INPUTS["polynomial"]).flatten().tolist()
    assert found == pytest.approx([0.2, 0.5, 0.8, 0.04, 0.25, 0.64, 0.1, 0.4, 0.16, 1])
    assert mixed_inputs(colors, INPUTS["linear"]).flatten().tolist() == pytest.approx([0.2, 0.5, 0.8, 1])


def test_the_quadratic_is_a_polynomial_of_each_channel_alone():
    colors = torch.tensor([0.2, 0.5, 0.8]).reshape(1, 3, 1, 1)
    coefficients = torch.tensor([[1.0, 0.5], [0.0, 1.0], [2.0, -1.0]]).reshape(1, 3, 2, 1, 1)
    assert affine_pixels(colors, coefficients).flatten().tolist() == pytest.approx([0.22, 0.25, 0.96])
