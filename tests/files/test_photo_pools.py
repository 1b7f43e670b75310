import pytest

from aict_hf.errors import InputError
from aict_hf.files.photo_pools import photos_named_in, read_photo_pool


def test_pools_are_read_by_their_metadata(pool):
    photos = read_photo_pool([pool])
    assert [(photo.name, photo.kind) for photo in photos] == [(f"{seed}.png", "object") for seed in range(1, 5)]
    assert all(photo.image.is_file() and photo.mask.is_file() for photo in photos)


def test_names_may_come_from_windows_and_macos(pool):
    (pool / "deep").mkdir()
    for name in ("1.png", "1_mask.png"):
        (pool / name).rename(pool / "deep" / name.upper())
    (pool / "2.png").rename(pool / "e\u0301.png")
    metadata = (pool / "metadata.csv").read_text()
    metadata = metadata.replace("1.png,1_mask.png", "deep\\1.png,deep\\1_mask.png").replace("2.png,", "\u00e9.png,")
    (pool / "metadata.csv").write_text(metadata, encoding="utf-8")
    photos = read_photo_pool([pool])
    assert [photo.image.relative_to(pool).as_posix() for photo in photos[:2]] == ["deep/1.PNG", "e\u0301.png"]
    (pool / "list.txt").write_text("DEEP/1.png\r\ne\u0301.png\n", encoding="utf-8")
    assert photos_named_in(pool / "list.txt", photos) == photos[:2]


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
