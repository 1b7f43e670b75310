import numpy as np
import torch

from aict_hf.model.lut_positions import lut_cells, pixel_positions


def test_cells_are_those_of_grid_sample():
    for pixels, nodes in ((37, 5), (2048, 64), (5120, 256), (3, 64), (1, 8), (9, 1)):
        above, distance = lut_cells(pixels, nodes)
        ramp = torch.arange(nodes, dtype=torch.float32).view(1, 1, 1, -1)
        grid = torch.stack([torch.linspace(-1, 1, pixels), torch.zeros(pixels)], dim=-1)[None, None]
        place = torch.nn.functional.grid_sample(ramp, grid, align_corners=True, padding_mode="border").flatten()
        np.testing.assert_allclose(above + distance, place, rtol=0, atol=nodes * 2e-7)
        assert (np.diff(above) >= 0).all()
        assert distance.min() >= 0
        assert distance.max() <= 1


def test_positions_of_a_block_are_those_of_the_whole():
    whole = pixel_positions(37, 53, slice(None), slice(None), torch.empty(0))
    block = pixel_positions(37, 53, slice(5, 9), slice(20, 53), torch.empty(0))
    assert torch.equal(block, whole[5:9, 20:53])
    assert torch.equal(whole[:, 0, 1], torch.linspace(-1, 1, 37))
    assert torch.equal(whole[0, :, 0], torch.linspace(-1, 1, 53))
