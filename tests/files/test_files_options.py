from aict_hf.files.options import DEFAULT_MAX_MEGAPIXELS


def test_photos_of_all_cameras_are_below_the_limit():
    assert DEFAULT_MAX_MEGAPIXELS == 200
