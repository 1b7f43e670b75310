import numpy as np
import pytest
from conftest import make_photo

from aict_hf.harmonize.photo_luts import LUTMaps, PhotoLUTs


def test_maps_may_be_tensors_or_arrays(harmonizer):
    photo, mask = make_photo(61, 83)
    [by_torch] = harmonizer.predict(photo, mask)
    by_numba = PhotoLUTs(by_torch.photo, LUTMaps(*(values.numpy() for values in by_torch.maps)))
    assert by_numba.knots.shape[:2] == (3, by_numba.color_lut.shape[1] + 1)
    for strength in (0.0, 0.4, 1.0):
        ours, theirs = (one.apply(strength=strength).astype(int) for one in (by_numba, by_torch))
        assert np.abs(ours - theirs).max() <= 1
    assert by_numba.disharmony() == pytest.approx(by_torch.disharmony(), abs=1e-3)
