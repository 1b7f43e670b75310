"""Both runtimes give the same pixels. The bundled checkpoint is the one with a graph."""

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf import DEFAULT_CHECKPOINT, Harmonizer
from aict_hf.harmonize.onnx_harmonizer import ONNXHarmonizer
from aict_hf.model.opened_photo import open_photo

LEVELS = 1  # of 255 or 65535 that the runtimes may differ by
DISHARMONY = 0.01  # of CIEDE2000, of which 1 is just visible


@pytest.fixture(scope="module")
def both():
    return ONNXHarmonizer.from_folder(DEFAULT_CHECKPOINT), Harmonizer.from_pretrained()


def tinted(height, width):
    photo, mask = make_photo(height, width)
    return np.where(mask[..., None] > 0, photo * np.array([1.0, 0.4, 0.2]), photo).astype(np.uint8), mask


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "I;16", "uint16", "float32"])
def test_results_differ_by_one_level_at_most_in_every_mode(both, mode):
    photo, mask = tinted(61, 83)
    if mode == "uint16":
        given = photo.astype(np.uint16) * 257
    elif mode == "float32":
        given = photo.astype(np.float32) / 255
    elif mode == "I;16":
        given = Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
    else:
        given = Image.fromarray(photo).convert(mode)
        if mode in ("RGBA", "LA"):
            given.putalpha(
                Image.fromarray(np.where(np.arange(83) < 70, 255, 100).astype(np.uint8).repeat(61).reshape(83, 61).T)
            )
    results = [one.predict_opened([open_photo(given, mask)])[0].apply() for one in both]
    fast, slow = map(np.asarray, results)
    assert fast.dtype == slow.dtype
    scale = 255 if mode == "float32" else 1
    if mode == "P":  # a level may choose another colour of the palette
        assert (fast != slow).mean() < 0.01
        fast, given = (np.asarray(image.convert("RGB")) for image in (results[0], given))
    else:
        assert np.abs(fast.astype(np.float64) - slow).max() * scale <= LEVELS
    assert np.abs(fast.astype(np.float64) - np.asarray(given)).max() * scale > 4


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 5), (300, 421), (1024, 777)], ids=str)
def test_results_differ_by_one_level_at_most_at_every_size(both, size):
    photo, mask = tinted(*size)
    mask = mask if mask.any() else np.full_like(mask, 255)
    fast, slow = (one.predict_opened([open_photo(photo, mask)])[0] for one in both)
    assert np.abs(fast.apply().astype(int) - slow.apply()).max() <= LEVELS
    assert np.abs(fast.apply(strength=0.3).astype(int) - slow.apply(strength=0.3)).max() <= LEVELS
    assert fast.disharmony() == pytest.approx(slow.disharmony(), abs=DISHARMONY)


def test_a_batch_gives_what_its_photos_give(both):
    photos = [open_photo(*tinted(*size)) for size in ((40, 60), (90, 30), (64, 64))]
    fast, _ = both
    together = fast.predict_opened(photos)
    for photo, luts in zip(photos, together, strict=True):
        [alone] = fast.predict_opened([photo])
        assert np.abs(alone.apply().astype(int) - luts.apply()).max() <= LEVELS
    assert fast.predict_opened([]) == []


def test_the_maps_are_arrays_and_those_of_torch(both):
    photo = open_photo(*tinted(61, 83))
    fast, slow = (one.predict_opened([photo])[0].maps for one in both)
    for name in fast._fields:
        assert isinstance(getattr(fast, name), np.ndarray)
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name).numpy(), rtol=0, atol=1e-4)


def test_the_digest_and_the_input_size_are_those_of_torch(both):
    fast, slow = both
    assert fast.digest() == slow.digest()
    assert fast.input_size == slow.input_size == (256, 256)


def test_a_strength_out_of_range_is_refused(both):
    [luts] = both[0].predict_opened([open_photo(*tinted(8, 8))])
    with pytest.raises(ValueError, match="strength is 2; expected 0"):
        luts.apply(strength=2)
