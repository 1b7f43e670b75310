import unicodedata

import numpy as np
import pytest
from PIL import Image

from aict_hf.errors import InputError
from aict_hf.files.photo_folders import NamedFiles, check_outside, find_photos, pair_masks, photo_suffixes


def fill(folder, *names):
    """Files with different contents; the names say which folders there are."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return folder


def found_in(folder):
    found = find_photos(folder)
    return [found.relative(path).as_posix() for path in found.files]


def paired(photos, masks=None):
    """Names of photos, and of the masks found for each."""
    found = find_photos(photos)
    pairs = pair_masks(found, None if masks is None else find_photos(masks))
    return {found.relative(photo).as_posix(): [mask.name for mask in several] for photo, several in pairs.items()}


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "jfif", "jpe", "png", "apng", "avif", "jp2", "tga", "mpo", "ppm"])
def test_all_photos_that_pillow_reads_are_found(tmp_path, suffix):
    assert found_in(fill(tmp_path, f"a.{suffix}")) == [f"a.{suffix}"]


def test_what_is_no_photo_is_counted(tmp_path):
    fill(tmp_path, "a.png", "b.txt", "c.txt", "day/d.heic", "README", ".DS_Store", "Thumbs.db", "e.eps")
    assert ".heic" in photo_suffixes() or find_photos(tmp_path).left_out == (
        "5 files of other kinds (.eps 1, .heic 1, .txt 2, no extension 1)"
    )
    assert find_photos(fill(tmp_path / "clean", "a.png", ".DS_Store")).left_out == ""


def test_only_photos_of_given_formats_are_found(tmp_path):
    found = find_photos(fill(tmp_path, "a.png", "b.JPG", "c.tga", "d.mpo"), formats=("JPEG", "PNG"))
    assert [path.name for path in found.files] == ["a.png", "b.JPG", "d.mpo"]
    assert found.left_out == "1 file of other kinds (.tga 1)"


def test_copies_of_systems_and_tools_are_left_out_and_said(tmp_path):
    tools = ("@eaDir/a.png", ".ipynb_checkpoints/a.png", "__MACOSX/._a.png", "day/$RECYCLE.BIN/x.jpg")
    fill(tmp_path, "a.png", "._a.png", "day/b.png", *tools)
    assert found_in(tmp_path) == ["a.png", "day/b.png"]
    said = "1 hidden image and 4 folders of tools ($RECYCLE.BIN, .ipynb_checkpoints, @eaDir, __MACOSX)"
    assert find_photos(tmp_path).left_out == said
    assert found_in(fill(tmp_path / ".cache", "a.png")) == ["a.png"]  # only what lies in the folder counts


def test_folders_that_look_like_photos_are_searched(tmp_path):
    assert found_in(fill(tmp_path, "a.png/b.png")) == ["a.png/b.png"]


def test_links_to_folders_are_followed_once(tmp_path):
    fill(tmp_path, "in/day/a.png", "far/b.png")
    (tmp_path / "in" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "day" / "circle").symlink_to(tmp_path / "in")
    assert found_in(tmp_path / "in") == ["day/a.png", "far/b.png"]


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: is not a folder"):
        find_photos(tmp_path / "nowhere")


def test_masks_beside_photos_are_no_photos(tmp_path):
    fill(tmp_path, "a.jpg", "a_mask.png", "day/b.png", "day/b-mask.png", "c.png")
    expected = {"a.jpg": ["a_mask.png"], "c.png": [], "day/b.png": ["b-mask.png"]}
    assert paired(tmp_path) == expected
    assert paired(tmp_path, tmp_path) == expected
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(tmp_path)
    assert paired(tmp_path, link) == expected


def test_a_copy_of_the_photos_is_no_folder_of_masks(tmp_path):
    for folder in ("one", "two"):  # the same zip, given twice
        for name in ("a.png", "a_mask.png", "b.png"):
            fill(tmp_path / folder, name)
    assert paired(tmp_path / "one", tmp_path / "two") == {"a.png": ["a_mask.png"], "b.png": []}


def test_photos_of_one_folder_are_not_masks_of_one_another(tmp_path):
    fill(tmp_path, "holiday.jpg", "holiday.png", "holiday_1.jpg", "holiday_2.jpg")
    assert not any(paired(tmp_path).values())


def test_numbers_are_stripped_only_if_no_photo_owns_the_name(tmp_path):
    fill(tmp_path, "in/a0002_1_4.jpg", "in/holiday.png", "in/holiday_1.png", "masks/a0002_1.png", "masks/holiday.png")
    assert paired(tmp_path / "in", tmp_path / "masks") == {
        "a0002_1_4.jpg": ["a0002_1.png"],
        "holiday.png": ["holiday.png"],
        "holiday_1.png": [],
    }


def test_masks_belong_to_the_photo_of_their_subfolder(tmp_path):
    fill(tmp_path, "in/a.png", "in/day1/a.png", "in/day2/a.png", "masks/a.png", "masks/day2/a_mask.png")
    assert paired(tmp_path / "in", tmp_path / "masks") == {
        "a.png": ["a.png"],
        "day1/a.png": [],
        "day2/a.png": ["a_mask.png"],
    }


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("café.png", unicodedata.normalize("NFD", "café.png")),
        (unicodedata.normalize("NFD", "ガ.jpg"), "ガ_mask.png"),
        ("IMG_0001.JPG", "img_0001.png"),
        ("Day/a.png", "day/A_MASK.PNG"),
    ],
)
def test_names_may_differ_in_case_and_composition(tmp_path, photo, mask):
    fill(tmp_path, f"in/{photo}", f"masks/{mask}")
    assert list(paired(tmp_path / "in", tmp_path / "masks").values()) == [[mask.rpartition("/")[2]]]


def test_the_exact_name_goes_before_one_of_another_case(tmp_path):
    fill(tmp_path, "in/a.png", "in/A.png", "masks/a.png", "masks/A.png", "in/b.png", "masks/b.png", "masks/b.jpg")
    assert paired(tmp_path / "in", tmp_path / "masks") == {
        "A.png": ["A.png"],
        "a.png": ["a.png"],
        "b.png": ["b.jpg", "b.png"],
    }


def test_names_in_tables_may_come_from_other_systems(tmp_path):
    fill(tmp_path, f"day/{unicodedata.normalize('NFD', 'é')}.png", "a.png", "A.png", "B.png", "x\\y.png")
    files = NamedFiles(tmp_path)
    assert files.find("day\\é.png") == next((tmp_path / "day").iterdir())
    assert files.find("x\\y.png") == tmp_path / "x\\y.png"
    assert files.find("./Day/../b.PNG").samefile(tmp_path / "B.png")
    assert files.find(str(tmp_path / "a.png")) == tmp_path / "a.png"
    assert [files.find(name) for name in ("day", "c.png", "a.PNG", "C:\\photos\\a.png")] == [None] * 4


def test_what_lies_inside_a_folder_is_known_before_it_exists(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for inside in (tmp_path / "link" / "new" / "deep", tmp_path / "in"):
        with pytest.raises(InputError, match="where the next run would read the results as inputs"):
            check_outside(inside, tmp_path / "in")
    check_outside(tmp_path / "in2", tmp_path / "in")


def test_found_photos_open(tmp_path):
    for suffix in ("jfif", "tga", "ppm", "jp2"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"a.{suffix}")
    for path in find_photos(tmp_path).files:
        with Image.open(path) as image:
            assert image.size == (8, 8)
