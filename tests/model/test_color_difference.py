import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from aict_hf.model.color_difference import ciede2000, rgb_to_lab

LAB_TOLERANCE, DIFFERENCE_TOLERANCE = 0.02, 1e-4  # skimage's matrix has fewer digits

# L, a and b of two colours and their difference, of table 1 of Sharma, Wu and Dalal (2005): hues across 0 and 360
# degrees, grays, and the blue region.
PUBLISHED = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("first", "second", "difference"), PUBLISHED)
def test_differences_are_the_published_ones(first, second, difference):
    colors = (np.array(color)[:, None] for color in (first, second))
    assert ciede2000(*colors).item() == pytest.approx(difference, abs=DIFFERENCE_TOLERANCE)


def test_lab_and_differences_agree_with_skimage():
    colors = np.random.default_rng(0).random((2, 3, 500))
    colors[:, :, 0], colors[:, :, 1] = 0, 1  # black and white
    ours = rgb_to_lab(colors)
    theirs = rgb2lab(colors, channel_axis=1)
    np.testing.assert_allclose(ours, theirs, atol=LAB_TOLERANCE)
    expected = deltaE_ciede2000(*theirs, channel_axis=0)
    found = ciede2000(*theirs)
    np.testing.assert_allclose(found, expected, atol=DIFFERENCE_TOLERANCE)


def test_a_color_does_not_differ_from_itself():
    lab = rgb_to_lab(np.random.default_rng(0).random((3, 100), np.float32))
    assert ciede2000(lab, lab).max() == 0


def test_the_precision_of_the_input_is_kept():
    colors = np.random.default_rng(0).random((2, 3, 100))
    single = rgb_to_lab(colors.astype(np.float32))
    difference = ciede2000(*single)
    assert single.dtype == difference.dtype == np.float32
    np.testing.assert_allclose(difference, ciede2000(*rgb_to_lab(colors)), atol=1e-3)
