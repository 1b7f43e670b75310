import numpy as np
import pytest

from aict_hf.compose.paste import paste
from aict_hf.compose.placement import Placement, draw_placement, relative_sizes


def test_placements_stay_inside_and_follow_the_seed():
    generators = [np.random.default_rng(3) for _ in range(2)]
    for _ in range(40):
        one, other = (draw_placement(generator, (30, 50), (200, 300)) for generator in generators)
        assert one == other
        assert isinstance(one, Placement)
        rgb, alpha = np.zeros((30, 50, 3), np.uint8), np.full((30, 50), 255, np.uint8)
        result = paste(rgb, alpha, np.zeros((200, 300, 3), np.uint8), **vars(one))
        assert result.mask.sum() / 255 == pytest.approx(30 * 50 * one.scale**2, rel=0.05)  # nothing cut off
        assert 0.15 * 200 <= 50 * one.scale <= 0.5 * 200


def test_placements_stand_on_boxes_and_avoid_others():
    generator = np.random.default_rng(0)
    table, person = (20.0, 120.0, 280.0, 190.0), (100.0, 20.0, 180.0, 190.0)
    for _ in range(30):
        drawn = draw_placement(
            generator, (40, 40), (200, 300), size=(0.2, 0.3), rotation=(0, 0), on=[table], avoid=[person]
        )
        foot = drawn.position[1] + 20 * drawn.scale
        assert table[1] <= foot <= table[3]
        half = 20 * drawn.scale
        assert drawn.position[0] + half <= person[0] or drawn.position[0] - half >= person[2]
    everything = (0.0, 0.0, 300.0, 200.0)
    assert draw_placement(generator, (40, 40), (200, 300), avoid=[everything]) is None
    assert draw_placement(generator, (40, 40), (200, 300), avoid=[everything], max_overlap=0.5) is not None


def test_sizes_come_from_the_data():
    sizes = relative_sizes([(0, 0, 20, 10), (10, 10, 20, 50), (0, 0, 4, 4)], (100, 200))
    assert sizes.tolist() == [0.2, 0.4, 0.04]
    generator = np.random.default_rng(0)
    drawn = [draw_placement(generator, (50, 50), (100, 200), size=sizes, rotation=(0, 0)) for _ in range(40)]
    shares = np.array([placement.scale * 50 / 100 for placement in drawn])
    nearest = np.abs(shares[:, None] - sizes).argmin(axis=1)
    assert set(nearest) == {0, 1, 2}
    assert (np.abs(shares / sizes[nearest] - 1) <= 0.1).all()


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(ValueError, match="size is"):
        draw_placement(np.random.default_rng(0), (5, 5), (9, 9), size=np.array([]))
    with pytest.raises(ValueError, match="no boxes to place it on"):
        draw_placement(np.random.default_rng(0), (5, 5), (9, 9), on=[])
