import re

import pytest
from PIL import Image

from aict_hf.data.peer_results import check_result_sizes, find_results
from aict_hf.data.photos import Triplet
from aict_hf.errors import InputError


def write_images(folder, *names, size=(12, 8)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(folder / name)
    return folder


@pytest.fixture
def triplets(tmp_path):
    """Three composites in two subsets."""
    composites = [
        tmp_path / "data" / subset / "composite_images" / name
        for subset, name in (("HCOCO", "c1_2_1.jpg"), ("HCOCO", "c1_2_2.jpg"), ("HFlickr", "f1_1_1.jpg"))
    ]
    for path in composites:
        write_images(path.parent, path.name)
    return [Triplet(path, path, path, path.parts[-3]) for path in composites]


@pytest.mark.parametrize(
    "names",
    [
        ("c1_2_1.jpg", "c1_2_2.jpg", "f1_1_1.jpg"),
        ("c1_2_1.png", "C1_2_2.PNG", "f1_1_1.png"),
        ("HCOCO/c1_2_1.png", "HCOCO/c1_2_2.png", "HFlickr/images/f1_1_1.png"),
        ("c1_2_1_harmonized.jpg", "c1_2_2_harmonized.jpg", "f1_1_1_harmonized.jpg"),
        ("c1_2_1_harm.jpg", "c1_2_2_harm.jpg", "f1_1_1_harm.jpg"),
        ("c1_2_1_stage3_rgb.jpg", "c1_2_2_stage3_rgb.jpg", "f1_1_1_stage3_rgb.jpg"),
    ],
    ids=["as composites", "another extension", "by subset", "PCT-Net", "PCT-Net's folders", "DCCF"],
)
def test_results_are_found_by_the_names_that_methods_give_them(triplets, tmp_path, names):
    folder = write_images(tmp_path / "theirs", *names)
    found = find_results(folder, triplets)
    assert found.files == [folder / name for name in names]
    assert found.left_out == []


def test_other_images_are_told(triplets, tmp_path):
    others = ("c1_2_1_mask.jpg", "c1_2_1_pred_lowres.jpg", "c1_2_1_real.jpg")
    folder = write_images(tmp_path / "theirs", "c1_2_1_harmonized.jpg", *others)
    found = find_results(folder, triplets[:1])
    assert [path.name for path in found.left_out] == list(others)
    assert find_results(folder, triplets[:1], endings=["_pred_lowres"]).files == [folder / others[1]]


def test_subsets_with_the_same_names_are_told_apart_by_folders(triplets, tmp_path):
    twins = [triplets[0], Triplet(*[write_images(tmp_path / "b", "c1_2_1.jpg") / "c1_2_1.jpg"] * 3, "HFlickr")]
    folder = write_images(tmp_path / "theirs", "hflickr/c1_2_1.png", "HCOCO/c1_2_1.png")
    assert find_results(folder, twins).files == [folder / "HCOCO/c1_2_1.png", folder / "hflickr/c1_2_1.png"]
    flat = write_images(tmp_path / "flat", "c1_2_1.png")
    with pytest.raises(InputError, match=r"may be the result of .*HCOCO.* and of .*; put the results of each subset"):
        find_results(flat, twins)


def test_missing_results_are_counted_and_named(triplets, tmp_path):
    folder = write_images(tmp_path / "theirs", "c1_2_2.jpg", *(f"{i}.jpg" for i in range(5)))
    expected = (
        f"{folder}: lacks the results of 2 of 3 composites, c1_2_1.jpg, f1_1_1.jpg; it holds 0.jpg, 1.jpg, 2.jpg and 2 "
        "more instead; a result has its composite's name, with nothing or _harmonized or _harm or _stage3_rgb after it "
        "(--results_ending names another ending)"
    )
    with pytest.raises(InputError, match=f"^{re.escape(expected)}$"):
        find_results(folder, triplets)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no images"):
        find_results(tmp_path / "empty", triplets)


def test_two_results_and_the_composite_itself_are_refused(triplets, tmp_path):
    folder = write_images(tmp_path / "theirs", "c1_2_1.jpg", "c1_2_1_harmonized.jpg")
    with pytest.raises(InputError, match=r"c1_2_1.jpg and .*c1_2_1_harmonized.jpg may both be the result of c1_2_1"):
        find_results(folder, triplets[:1])
    both = write_images(tmp_path / "both", "PCT-Net/c1_2_1.jpg", "Harmonizer/HCOCO/c1_2_1.png")  # methods, not one
    with pytest.raises(InputError, match=r"HCOCO/c1_2_1.png and .*PCT-Net/c1_2_1.jpg may both be the result"):
        find_results(both, triplets[:1])
    with pytest.raises(InputError, match=r"c1_2_1.jpg: is the composite itself"):
        find_results(tmp_path / "data", triplets)


def test_sizes_are_compared_with_what_is_measured(triplets, tmp_path):
    names = [triplet.composite.name for triplet in triplets]
    files = find_results(write_images(tmp_path / "theirs", *names), triplets).files
    check_result_sizes(files, triplets, side=None)
    small = find_results(write_images(tmp_path / "small", *names, size=(16, 16)), triplets).files
    check_result_sizes(small, triplets, side=16)
    with pytest.raises(InputError, match=r"^3 of 3 results .*: c1_2_1.jpg is 16 x 16, expected 12 x 8; c1_2_2"):
        check_result_sizes(small, triplets, side=None)
    with pytest.raises(InputError, match=r"^1 of 3 results .*: f1_1_1.jpg is 12 x 8, expected 16 x 16; choose"):
        check_result_sizes([*small[:2], files[2]], triplets, side=16)
    (tmp_path / "small" / names[0]).write_bytes(b"broken")  # decoding finds it
    check_result_sizes(small, triplets, side=16)
