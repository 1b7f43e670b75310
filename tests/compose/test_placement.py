import numpy as np
import pytest

from aict_hf.compose.paste import paste
from aict_hf.compose.placement import Placement, draw_placement

RANGES = {"size": (0.15, 0.5), "rotation": (-10.0, 10.0), "flip": 0.5}


def test_placements_stay_inside_and_follow_the_seed():
    generators = [np.random.default_rng(3) for _ in range(2)]
    for _ in range(40):
        one, other = (draw_placement(generator, (30, 50), (200, 300), **RANGES) for generator in generators)
        assert one == other
        assert isinstance(one, Placement)
        rgb, alpha = np.zeros((30, 50, 3), np.uint8), np.full((30, 50), 255, np.uint8)
        result = paste(rgb, alpha, np.zeros((200, 300, 3), np.uint8), **vars(one))
        assert result.mask.sum() / 255 == pytest.approx(30 * 50 * one.scale**2, rel=0.05)  # nothing cut off
        assert 0.15 * 200 <= 50 * one.scale <= 0.5 * 200


def test_placements_avoid_boxes():
    generator = np.random.default_rng(0)
    person = (100.0, 80.0, 180.0, 120.0)
    places = set()
    for _ in range(60):
        drawn = draw_placement(
            generator, (40, 40), (200, 300), size=(0.1, 0.3), rotation=(0, 0), flip=0, avoid=[person]
        )
        x, y, half = *drawn.position, 20 * drawn.scale
        clear = {"left": x + half <= 100, "right": x - half >= 180, "above": y + half <= 80, "below": y - half >= 120}
        assert any(clear.values())
        places |= {side for side, is_clear in clear.items() if is_clear}
    assert places == {"left", "right", "above", "below"}
    everything = (0.0, 0.0, 300.0, 200.0)
    assert draw_placement(generator, (40, 40), (200, 300), **RANGES, avoid=[everything]) is None


@pytest.mark.parametrize(("cutout_size", "size"), [((5, 5), (0.0, 0.5)), ((5, 5), (0.5, 0.2)), ((0, 5), (0.1, 0.5))])
def test_nothing_to_draw_from_is_an_error(cutout_size, size):
    with pytest.raises(ValueError, match="size is"):
        draw_placement(np.random.default_rng(0), cutout_size, (9, 9), **RANGES | {"size": size})
