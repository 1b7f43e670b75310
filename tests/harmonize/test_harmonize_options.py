import dataclasses

import pytest

from aict_hf.errors import InputError
from aict_hf.harmonize.options import HarmonizeOptions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5; expected a share from 0 to 1"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"max_megapixels": -1}, "max_megapixels is -1"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        HarmonizeOptions(**values)


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        HarmonizeOptions().strength = 0.5
