import re
import unicodedata

import numpy as np
import pytest
from conftest import make_photo, write_pool
from PIL import Image

from aict_hf.augment.annotations import AnnotatedDataset, AnnotatedImage
from aict_hf.augment.cutouts import CutoutBank, CutoutSource
from aict_hf.augment.transform import HarmonizedCopyPaste
from aict_hf.errors import InputError


def test_a_pool_is_a_bank(tmp_path):
    write_pool(tmp_path, 2)
    with pytest.raises(InputError, match="gives no category; name one for all"):
        CutoutBank.from_pool([tmp_path])
    metadata = (tmp_path / "metadata.csv").read_text().splitlines()
    rows = [f"{metadata[0]},category", f"{metadata[1]},kite", metadata[2].replace("object", "stuff") + ",sky"]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    bank = CutoutBank.from_pool([tmp_path])
    assert len(bank) == 1
    assert bank.categories == ["kite"]
    photo, mask = make_photo(60, 80, seed=0)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    block = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    assert np.array_equal(bank[0].rgb, photo[block])
    assert np.array_equal(bank[0].alpha, mask[block])
    with pytest.raises(ValueError, match="labels lacks kite"):
        HarmonizedCopyPaste(bank, {"dog": 1})


def test_folders_of_cut_outs_are_a_bank(tmp_path):
    (tmp_path / "kite").mkdir()
    photo, mask = make_photo()
    Image.fromarray(np.dstack([photo, mask])).save(tmp_path / "kite" / "a.png")
    Image.fromarray(photo).save(tmp_path / "kite" / "b.png")
    bank = CutoutBank.from_folder(tmp_path)
    assert bank.categories == ["kite"]
    assert bank[0].name == "kite/a.png"
    with pytest.raises(InputError, match=r"b.png: has no alpha channel"):
        bank[1]
    Image.new("RGBA", (9, 9)).save(tmp_path / "loose.png")
    with pytest.raises(InputError, match="is not in a folder named after its category"):
        CutoutBank.from_folder(tmp_path)
    named = CutoutBank.from_folder(tmp_path, category="bird")
    assert [source.category for source in named.sources] == ["kite", "kite", "bird"]
    with pytest.raises(InputError, match="the mask has no foreground"):
        named[2]


def annotated_dataset(folder):
    Image.fromarray(make_photo(60, 80)[0]).save(folder / "a.png")
    squares = {1: (20, 15, 40), 2: (0, 20, 40), 3: (20, 20, 5), 4: (10, 10, 40)}
    annotations = [
        {
            "id": number,
            "category_id": 1 + (number == 4),
            "bbox": [x, y, side, side],
            "segmentation": [[x, y, x + side, y, x + side, y + side, x, y + side]],
            "area": side * side,
        }
        for number, (x, y, side) in squares.items()
    ]
    record = {"width": 80, "height": 60}
    image = AnnotatedImage("a.png", folder / "a.png", annotations, record)
    return AnnotatedDataset([image], [{"id": 1, "name": "kite"}, {"id": 2, "name": "dog"}])


def test_whole_objects_of_a_dataset_are_a_bank(tmp_path):
    dataset = annotated_dataset(tmp_path)
    bank = CutoutBank.from_dataset(dataset, min_area=100)
    assert [source.name for source in bank.sources] == ["a.png#1", "a.png#4"]  # 2 is at the border, 3 is small
    assert bank[0].rgb.shape == (40, 40, 3)
    assert CutoutBank.from_dataset(dataset, categories=["dog"])[0].category == "dog"
    with pytest.raises(InputError, match="no object of 1 images is whole"):
        CutoutBank.from_dataset(dataset, min_area=1e6)


def test_masks_of_pools_are_read_by_the_rules_of_all_masks(tmp_path):
    photo, mask = make_photo()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    bank = CutoutBank([CutoutSource(tmp_path / "photo.png", tmp_path / "mask.png", "kite", "kite")])
    Image.fromarray(mask).save(tmp_path / "mask.png")
    expected = bank[0].alpha
    red = (mask[..., None] / 255 * [255, 0, 0]).astype(np.uint8)
    layer = np.dstack([mask * 0] * 3 + [mask])
    for given in (red, layer):
        Image.fromarray(given).save(tmp_path / "mask.png")
        assert np.array_equal(bank[0].alpha, expected)
    for given, words in (
        ((mask > 0).astype(np.uint8) * 3, r"mask\.png: the mask's highest level is 3"),
        (photo, r"mask\.png: the mask is in several colours"),
        (mask.T.copy(), r"mask\.png: is turned against .*photo\.png; photos are turned upright by their EXIF"),
    ):
        Image.fromarray(given).save(tmp_path / "mask.png")
        with pytest.raises(InputError, match=words):
            bank[0]


def test_an_opaque_picture_is_no_cut_out(tmp_path):
    Image.new("RGBA", (9, 9), (1, 2, 3, 255)).save(tmp_path / "shot.png")
    with pytest.raises(InputError, match=r"shot\.png: its alpha channel is opaque everywhere; expected a cut-out"):
        CutoutBank.from_folder(tmp_path, category="kite")[0]


def test_masks_may_lie_beside_cut_outs_and_copies_of_tools_are_no_classes(tmp_path):
    photo, mask = make_photo()
    cutout = Image.fromarray(np.dstack([photo, mask]))
    nfd = unicodedata.normalize("NFD", "kité")
    for folder in ("dog", "dog/.ipynb_checkpoints", "dog/@eaDir", "__MACOSX/dog", nfd):
        (tmp_path / folder).mkdir(parents=True)
        cutout.save(tmp_path / folder / "a.png")
    Image.fromarray(photo).save(tmp_path / "dog" / "b.jpg", quality=100)
    Image.fromarray(mask).save(tmp_path / "dog" / "b_mask.png")
    (tmp_path / "dog" / "._a.png").write_bytes(b"\0\5\x16\7")
    said = "left out 1 hidden image and 3 folders of tools (.ipynb_checkpoints, @eaDir, __MACOSX)"
    with pytest.warns(UserWarning, match=re.escape(said)):
        bank = CutoutBank.from_folder(tmp_path)
    assert bank.categories == ["dog", "kité"]
    assert [source.name.rpartition("/")[2] for source in bank.sources] == ["a.png", "b.jpg", "a.png"]
    assert np.array_equal(bank[1].alpha, bank[0].alpha)
