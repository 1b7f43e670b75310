import numpy as np
import pytest
from conftest import make_photo

from aict_hf.errors import InputError
from aict_hf.files.photo_pools import load_photo, read_photo_pool


def test_pools_are_read_by_their_metadata(pool):
    photos = read_photo_pool([pool])
    assert [(photo.name, photo.kind) for photo in photos] == [(f"{seed}.png", "object") for seed in range(1, 5)]
    image, mask = load_photo(photos[0])
    assert np.array_equal(image, make_photo(60, 80, seed=1)[0])
    assert mask.shape == (60, 80)


def test_broken_pools_are_named(pool):
    (pool / "2.png").rename(pool / "away.png")
    with pytest.raises(InputError, match=r"2\.png: no such file, but .*metadata\.csv names it"):
        read_photo_pool([pool])
    (pool / "metadata.csv").write_text("image,label\na,b\n")
    with pytest.raises(InputError, match="has columns image, label; expected file_name and mask"):
        read_photo_pool([pool])
    (pool / "metadata.csv").write_text("file_name,mask\n")
    with pytest.raises(InputError, match="no photo has a mask"):
        read_photo_pool([pool])
    with pytest.raises(InputError, match="a pool needs one with the columns"):
        read_photo_pool([pool / "nowhere"])
