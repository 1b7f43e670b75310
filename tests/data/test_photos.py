import numpy as np
import pytest
from conftest import make_photo, write_pool, write_shards
from PIL import Image

from aict_hf.data.photos import (
    decode_streamed,
    load_triplet,
    read_iharmony4,
    reference_colors,
    stream_photos,
    synthetic_sample,
)
from aict_hf.errors import InputError
from aict_hf.files.photo_pools import read_photo_pool


@pytest.fixture
def iharmony4(tmp_path):
    for subset, name in (("HCOCO", "c12_34_1"), ("Hday2night", "d90000005-8_1_2")):
        for folder in ("composite_images", "masks", "real_images"):
            (tmp_path / subset / folder).mkdir(parents=True)
        photo, mask = make_photo()
        root, part = tmp_path / subset, name.rpartition("_")[0]
        Image.fromarray(255 - photo).save(root / "composite_images" / f"{name}.jpg")
        Image.fromarray(mask).save(root / "masks" / f"{part}.png")
        Image.fromarray(photo).save(root / "real_images" / f"{part.rpartition('_')[0]}.jpg")
        (root / f"{subset}_test.txt").write_text(f"{name}.jpg\n")
    return tmp_path


def test_iharmony4_is_read_by_its_lists(iharmony4):
    triplets = read_iharmony4([iharmony4], "test")
    assert [triplet.subset for triplet in triplets] == ["HCOCO", "Hday2night"]
    assert triplets[0].mask.name == "c12_34.png"
    assert triplets[0].real.name == "c12.jpg"
    assert read_iharmony4([iharmony4 / "HCOCO", iharmony4 / "Hday2night"], "test") == triplets
    sample = load_triplet(triplets[0])
    assert sample.composite.shape == sample.real.shape == (40, 56, 3)
    assert sample.mask.shape == (40, 56)
    assert (sample.name, sample.subset) == ("c12_34_1.jpg", "HCOCO")


def test_lists_and_files_may_come_from_other_systems(iharmony4):
    part = iharmony4 / "HCOCO"
    expected = read_iharmony4([part], "test")
    (part / "HCOCO_test.txt").write_text("\ufeffcomposite_images\\C12_34_1.jpg\r\n", encoding="utf-8")
    (part / "masks" / "._c12_34.png").write_bytes(b"\0\5\x16\7")
    assert read_iharmony4([part], "test") == expected
    (part / "masks" / "C12_34.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"c12_34\.png: differs from .*C12_34\.jpg only in its extension or case"):
        read_iharmony4([part], "test")


def test_incomplete_sets_are_named(iharmony4):
    with pytest.raises(InputError, match=r"has no list \*_train\.txt"):
        read_iharmony4([iharmony4], "train")
    with pytest.raises(InputError, match="nowhere: is not a folder"):
        read_iharmony4([iharmony4 / "nowhere"], "test")
    with pytest.raises(InputError, match="holds no composite_images"):
        read_iharmony4([iharmony4 / "HCOCO" / "masks"], "test")
    part = iharmony4 / "HCOCO"
    for file, lacking in (
        ("real_images/c12.jpg", "real photo"),
        ("masks/c12_34.png", "mask"),
        ("composite_images/c12_34_1.jpg", "file"),
    ):
        content = (part / file).read_bytes()
        (part / file).unlink()
        with pytest.raises(InputError, match=f"c12_34_1.jpg: has no {lacking}"):
            read_iharmony4([iharmony4], "test")
        (part / file).write_bytes(content)
    for subset in ("HCOCO", "Hday2night"):
        (iharmony4 / subset / f"{subset}_test.txt").write_text("\n")
    with pytest.raises(InputError, match="lists are empty"):
        read_iharmony4([iharmony4], "test")


def test_sizes_that_differ_are_named(iharmony4):
    Image.new("L", (9, 9)).save(iharmony4 / "HCOCO" / "masks" / "c12_34.png")
    with pytest.raises(InputError, match=r"c12_34\.png: is 9 x 9, its composite c12_34_1\.jpg 56 x 40"):
        load_triplet(read_iharmony4([iharmony4], "test")[0])


def test_synthetic_samples_depend_on_photo_and_seed_alone(pool):
    photos = read_photo_pool([pool])
    sample, again = (synthetic_sample(photos, 2, seed=1) for _ in "12")
    assert np.array_equal(sample.composite, again.composite)
    assert np.array_equal(sample.real, make_photo(60, 80, seed=3)[0])
    assert np.array_equal(sample.composite[sample.mask == 0], sample.real[sample.mask == 0])
    assert not np.array_equal(sample.composite, sample.real)
    assert not np.array_equal(sample.composite, synthetic_sample(photos, 2, seed=2).composite)


def test_a_mask_without_foreground_gives_no_sample(pool):
    Image.new("L", (80, 60)).save(pool / "3_mask.png")
    assert synthetic_sample(read_photo_pool([pool]), 2) is None


def test_reference_colours_are_the_photos():
    photo, mask = make_photo(60, 80)
    rng = np.random.default_rng(0)
    everything = {tuple(color) for color in photo.reshape(-1, 3)}
    for _ in range(5):
        colors = reference_colors(photo, mask, rng)
        assert len(colors) == min(4096, (mask > 127).sum()) or len(colors) == 4096
        assert {tuple(color) for color in colors[:100]} <= everything


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_shards_and_folders_of_images_are_streamed_alike(tmp_path, half_read):
    photo, mask = make_photo(60, 80, seed=0)
    shards = stream_photos(write_shards(tmp_path / "shards"), image_column="jpg", mask_column="mask.png")
    streamed, its_mask = decode_streamed(next(iter(shards)))
    assert np.abs(streamed.astype(int) - photo).mean() < 3  # JPEG
    assert np.array_equal(its_mask, mask)

    folder = write_pool(tmp_path / "pool", 3)
    table = (folder / "metadata.csv").read_text().replace("file_name,mask", "file_name,mask_file_name")
    (folder / "metadata.csv").write_text(table)
    streamed, its_mask = decode_streamed(next(iter(stream_photos(str(folder)))))
    assert np.array_equal(streamed, photo)
    assert np.array_equal(its_mask, mask)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize(
    ("name", "columns", "words"),
    [
        ("nowhere", {}, "nowhere: cannot be opened as a dataset"),
        ("nowhere-*.tar", {}, "nowhere-.*tar: cannot be opened as a dataset"),
        ("shards/pool-*.tar", {}, "has the columns jpg, mask.png, .*expected image among them"),
        ("shards/pool-*.tar", {"image_column": "jpg"}, "expected mask among them"),
    ],
)
def test_streams_that_cannot_be_read_are_errors(tmp_path, half_read, name, columns, words):
    write_shards(tmp_path / "shards")
    with pytest.raises(InputError, match=words):
        stream_photos(str(tmp_path / name), **columns)
