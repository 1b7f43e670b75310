import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from aict_hf.model import opened_photo
from aict_hf.model.opened_photo import open_photo

PHOTO, MASK = make_photo()


def test_errors_name_the_image_they_are_about(processor, tmp_path):
    with pytest.raises(ValueError, match="image 1: mask is"):
        processor([PHOTO, PHOTO], [MASK, MASK[:-1]])
    Image.fromarray(MASK[:-1]).save(tmp_path / "short.png")
    with pytest.raises(ValueError, match=r"short\.png: mask is"):
        processor(PHOTO, tmp_path / "short.png")


def predict(model, processor, photo, mask):
    with torch.no_grad():
        return model(**processor(photo, mask, return_tensors="pt"), return_harmonized=False)


def test_disharmony_is_the_mean_difference_from_the_full_result(model, processor):
    photos, masks = zip(*(make_photo(30, 41 + seed, seed=seed) for seed in range(2)), strict=True)
    outputs = predict(model, processor, list(photos), list(masks))
    measured = processor.disharmony(outputs, list(photos), list(masks))
    results = processor.post_process_harmonization(outputs, [photo / np.float32(255) for photo in photos], list(masks))
    for found, photo, mask, result in zip(measured, photos, masks, results, strict=True):
        inside = mask > 0
        difference = deltaE_ciede2000(rgb2lab(photo[inside] / 255), rgb2lab(result[inside]))
        assert found == pytest.approx(np.average(difference, weights=mask[inside]), abs=0.01)
        assert found > 1


def test_disharmony_of_large_photos_is_measured_at_some_pixels(model, processor, monkeypatch):
    photo, mask = make_photo(200, 300)
    outputs = predict(model, processor, photo, mask)
    [whole] = processor.disharmony(outputs, photo, mask)
    monkeypatch.setattr(opened_photo, "DISHARMONY_PIXELS", 2000)
    [sampled] = processor.disharmony(outputs, photo, mask)
    assert sampled != whole
    assert sampled == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("kind", ["uint16", "gray", "tensor", "alpha"])
def test_disharmony_takes_every_kind_of_photo(model, processor, kind):
    photo, mask = make_photo()
    outputs = predict(model, processor, photo, mask)
    [expected] = processor.disharmony(outputs, photo, mask)
    given = {
        "uint16": (photo.astype(np.uint16) * 257, mask),
        "gray": (photo[..., :1], mask),
        "tensor": (torch.from_numpy(photo).permute(2, 0, 1), torch.from_numpy(mask)),
        "alpha": (Image.fromarray(np.dstack([photo, mask])), None),
    }[kind]
    [found] = processor.disharmony(outputs, *given)
    assert found == pytest.approx(expected, rel=1e-4) or kind == "gray"
    assert found > 0


def test_nothing_to_harmonize_has_no_disharmony(model, processor):
    photo, mask = make_photo()
    outputs = predict(model, processor, photo, mask * 0)
    assert processor.disharmony(outputs, photo, mask * 0) == [0.0]
    with pytest.raises(ValueError, match="outputs holds 1 images, composites 2"):
        processor.disharmony(outputs, [photo] * 2, [mask] * 2)


def test_the_fill_is_the_mean_of_what_is_visible_outside_the_foreground():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:, 4:] = 100, 50, 20, 255
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 7] = 255
    rgba[:, 7, :3] = 200
    copy, _ = open_photo(rgba, mask).low_resolution((8, 8))
    np.testing.assert_allclose(
        copy[:, :, :4], np.full((3, 8, 4), np.array([100, 50, 20])[:, None, None] / 255), rtol=1e-5
    )
    np.testing.assert_allclose(copy[:, :, 7], 200 / 255, rtol=1e-5)


def test_a_missing_background_is_said(processor):
    with pytest.warns(UserWarning, match="the mask covers the whole picture; there is no background"):
        processor(PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8))
    with pytest.warns(UserWarning, match="image 1: nothing visible lies outside the foreground"):
        processor([PHOTO, np.dstack([PHOTO, MASK])], [MASK, None])
