import io

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf.model.foreground_mask import mask_surprises
from aict_hf.model.image_arrays import is_painted_mask, mask_array
from aict_hf.model.opened_photo import open_photo

HEIGHT, WIDTH = 30, 40
Y, X = np.mgrid[:HEIGHT, :WIDTH]
INSIDE = (((X - 20) / 12) ** 2 + ((Y - 15) / 9) ** 2) < 1
HARD = INSIDE.astype(np.uint8) * 255
SOFT = (255 * np.clip(3 - 3 * np.hypot((X - 20) / 12, (Y - 15) / 9), 0, 1)).astype(np.uint8)
PAINTED = (INSIDE[..., None] * np.array([255, 0, 0])).astype(np.uint8)


def palette(indices, *colors):
    image = Image.fromarray(indices.astype(np.uint8), "L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([level for color in colors for level in color])
    return image


def read(mask):
    levels = mask_array(mask)[0]
    return levels / (255 if levels.dtype == np.uint8 else 1)


@pytest.mark.parametrize("mask", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize(
    "kind",
    ["gray", "16 bits", "float", "rgb", "opaque rgba", "gray palette", "red", "half red", "white layer", "black layer",
     "cut-out", "gray and alpha"],
)  # fmt: skip
def test_every_kind_of_mask_is_the_same_mask(mask, kind):
    share, zero = mask[..., None] / 255, np.zeros_like(mask)
    given = {
        "gray": lambda: mask,
        "16 bits": lambda: mask.astype(np.uint16) * 257,
        "float": lambda: (mask / 255).astype(np.float32),
        "rgb": lambda: np.dstack([mask] * 3),
        "opaque rgba": lambda: Image.fromarray(mask).convert("RGBA"),
        "gray palette": lambda: palette(mask, *[(level, level, level) for level in range(256)]),
        "red": lambda: (share * [255, 0, 0]).astype(np.uint8),
        "half red": lambda: (share * [128, 30, 0]).round().astype(np.uint8),
        "white layer": lambda: np.dstack([zero + 255] * 3 + [mask]),
        "black layer": lambda: np.dstack([zero] * 3 + [mask]),
        "cut-out": lambda: np.dstack([make_photo(HEIGHT, WIDTH)[0], mask]),
        "gray and alpha": lambda: np.dstack([zero + 255, mask]),
    }[kind]()
    assert np.abs(read(given) - mask / 255).max() < 0.01


@pytest.mark.parametrize(
    "mask",
    [INSIDE, Image.fromarray(INSIDE), palette(INSIDE, (0, 0, 0), (128, 0, 0)), palette(INSIDE, (0, 0, 0), (255,) * 3)],
    ids=["bool", "bilevel", "one class", "black and white"],
)
def test_masks_of_two_values(mask):
    assert np.array_equal(read(mask), INSIDE)


def test_a_gray_mask_with_transparent_pixels_lies_on_black():
    alpha = np.where(X < 15, 0, 255).astype(np.uint8)
    assert np.allclose(read(np.dstack([HARD] * 3 + [alpha])), INSIDE * (X >= 15))
    assert not read(np.dstack([HARD] * 3 + [alpha * 0])).any()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (INSIDE.astype(np.uint8), "uint8 but holds only 0 and 1"),
        (INSIDE.astype(np.uint16), "uint16 but holds only 0 and 1, where 65535"),
        (HARD.astype(np.uint16), "has 16 bits, where 65535 is foreground, but its highest level is 255; save it"),
        (INSIDE.astype(np.uint8) * 3, "highest level is 3, where 255 is foreground; if it holds numbers of classes"),
        (INSIDE.astype(np.uint16) * 1003, "highest level is 1003, where 65535"),
        (INSIDE.astype(np.float32) / 255, "highest level is 0.003922, where 1 is foreground"),
        (palette(INSIDE, (0, 0, 0), (1, 1, 1)), "holds only 0 and 1"),
        (palette(INSIDE + 2 * (X > 35), (0, 0, 0), (128, 0, 0), (0, 80, 0)), "such as .128, 0, 0. and .0, 80, 0."),
        (palette(INSIDE, (68, 1, 84), (253, 231, 37)), "several colours"),
        (palette(INSIDE * (1 + (X > 18)), (0, 0, 0), (224, 224, 192), (192, 128, 128)), "several"),  # VOC's border
        (255 - PAINTED, "several colours"),
        (make_photo(HEIGHT, WIDTH)[0], "several colours"),
    ],
)  # fmt: skip
def test_numbers_and_colours_are_refused(mask, words):
    with pytest.raises(ValueError, match=words):
        mask_array(mask)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (2, 2), (900, 9)])
def test_painted_masks_of_any_shape(shape):
    mask = np.zeros((*shape, 3), np.uint8)
    mask[-1, -1] = 255, 0, 0
    assert read(mask).sum() == read(mask)[-1, -1] == 1


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (255, 255, 0), (192, 128, 128)])
def test_painted_masks_may_be_jpeg_files(color):
    file = io.BytesIO()
    distance = np.hypot(X - 20, Y - 15)
    Image.fromarray(((distance < 10)[..., None] * color).astype(np.uint8)).save(file, "JPEG", quality=75)
    mask = read(Image.open(file))
    assert mask[distance < 8].min() > 0.8  # compression reaches inside
    assert mask[distance > 13].max() < 0.15


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_whether_a_mask_is_painted(dtype, white):
    red, zero = (INSIDE * white).astype(dtype), np.zeros((HEIGHT, WIDTH), dtype)
    opaque = np.full_like(red, white)
    assert is_painted_mask(np.dstack([red, zero, zero]))
    assert is_painted_mask(np.dstack([red, zero, zero, opaque]))
    for other in (red, np.dstack([red] * 3), np.dstack([red] * 3 + [opaque]), np.dstack([red, zero, zero, red])):
        assert not is_painted_mask(other)


def test_levels_below_white_are_said():
    [said] = mask_surprises((HARD // 2)[None])
    assert said.startswith("the mask's highest level is 127 of 255, so at most 50 % of the colour change is applied")
    [said] = mask_surprises(mask_array(HARD.astype(np.uint16) * 100))
    assert "at most 39 % of the colour change" in said


def test_flat_areas_between_black_and_white_are_said():
    instances = HARD.copy()
    instances[:, :20] //= 3
    [said] = mask_surprises(instances[None])
    assert "flat areas between black and white, such as level 85" in said


@pytest.mark.parametrize("mask", [HARD, SOFT, np.zeros_like(HARD)], ids=["hard", "soft", "empty"])
@pytest.mark.parametrize("quality", [None, 95, 50])
def test_ordinary_masks_surprise_nobody(mask, quality, tmp_path):
    given = Image.fromarray(mask)
    if quality is not None:
        given.save(tmp_path / "mask.jpg", quality=quality)
        given = tmp_path / "mask.jpg"
    assert open_photo(np.zeros((HEIGHT, WIDTH, 3), np.uint8), given).surprises() == []
