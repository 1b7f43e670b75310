from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image

from aict_hf import DEFAULT_CHECKPOINT, Harmonizer
from aict_hf.errors import InputError
from aict_hf.model import opened_photo
from aict_hf.model.image_arrays import photo_arrays


def by_hand(harmonizer, photo, mask, strength=1.0):
    processor = harmonizer.processor
    with torch.no_grad():
        outputs = harmonizer.model(**processor(photo, mask, return_tensors="pt"))
    [result] = processor.post_process_harmonization(outputs, photo, mask, strength)
    return result, processor.disharmony(outputs, photo, mask)[0], outputs


def test_it_gives_what_processor_and_model_give(harmonizer):
    photo, mask = make_photo()
    expected, disharmony, outputs = by_hand(harmonizer, photo, mask, 0.7)
    assert np.array_equal(harmonizer(photo, mask, strength=0.7), expected)
    [luts] = harmonizer.predict([photo], [mask])
    assert np.array_equal(luts.apply(strength=0.7), expected)
    assert luts.disharmony() == pytest.approx(disharmony)
    assert torch.equal(luts.knots, outputs.knots[0])
    assert torch.equal(luts.color_lut, outputs.color_lut[0])
    assert torch.equal(luts.maps.sampling_intervals, outputs.sampling_intervals[0])
    assert luts.knots.dtype == luts.color_lut.dtype == torch.float32


def test_one_image_in_one_out_and_lists_for_lists(harmonizer, tmp_path):
    photo, mask = make_photo()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    one = harmonizer(tmp_path / "photo.png", mask)
    assert isinstance(one, Image.Image)
    several = harmonizer([Image.fromarray(photo), photo], [mask, mask])
    assert [type(image) for image in several] == [Image.Image, np.ndarray]
    assert all(np.abs(np.asarray(image, int) - np.asarray(one)).max() <= 1 for image in several)
    assert len(harmonizer.predict(photo, mask)) == 1


def test_the_network_runs_once_and_photos_are_decoded_once(harmonizer, monkeypatch):
    photos, masks = zip(*[make_photo(seed=seed) for seed in range(3)], strict=True)
    runs, decoded = [], []
    harmonizer.model.register_forward_pre_hook(lambda *_: runs.append(1))
    monkeypatch.setattr(opened_photo, "photo_arrays", lambda *given: decoded.append(given) or photo_arrays(*given))
    for luts in harmonizer.predict(list(photos), list(masks)):
        for strength in (0.2, 1.0):
            luts.apply(strength=strength)
        luts.disharmony()
    assert (len(runs), len(decoded)) == (1, 3)


def test_strength_zero_is_the_composite_and_alpha_is_a_mask(harmonizer):
    photo, mask = make_photo()
    assert np.array_equal(harmonizer(photo, mask, strength=0), photo)
    cut_out = Image.fromarray(np.dstack([photo, mask]))
    with pytest.warns(UserWarning, match="nothing visible lies outside the foreground"):
        result = np.asarray(harmonizer(cut_out))
    assert np.array_equal(result[mask == 0], np.asarray(cut_out)[mask == 0])
    assert not np.array_equal(result, np.asarray(cut_out))


def test_bad_input_is_refused(harmonizer):
    photo, mask = make_photo()
    with pytest.raises(ValueError, match="image 1: no mask was given"):
        harmonizer([photo, photo], [mask, None])
    with pytest.raises(ValueError, match="strength is 2"):
        harmonizer(photo, mask, strength=2)
    assert harmonizer.predict_opened([]) == []


def test_checkpoints_load_by_name_and_bad_ones_are_refused():
    harmonizer = Harmonizer.from_pretrained()
    assert not harmonizer.model.training
    assert harmonizer.processor.size["height"] == harmonizer.model.config.image_size
    assert Harmonizer.from_pretrained(DEFAULT_CHECKPOINT).model.device.type == "cpu"
    with pytest.raises(InputError, match="bundled: aict-small"):
        Harmonizer.from_pretrained("aict-huge")


def test_threads_can_share_one(harmonizer):
    pairs = [make_photo(seed=seed) for seed in range(8)]
    expected = [harmonizer(photo, mask) for photo, mask in pairs]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda pair: harmonizer(*pair), pairs))
    assert all(np.abs(one.astype(int) - other).max() <= 1 for one, other in zip(results, expected, strict=True))
