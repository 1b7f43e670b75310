import dataclasses

import pytest

from aict_hf.errors import InputError
from aict_hf.harmonize.options import ComposeOptions, HarmonizeOptions


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5; expected a share from 0 to 1"),
        ({"position": (1, float("nan"))}, "position is .1, nan.; expected finite x and y"),
        ({"scale": 0}, "scale is 0; expected a finite number above 0"),
        ({"rotation": float("inf")}, "rotation is inf; expected degrees"),
        ({"feather": -1}, "feather is -1; expected a width"),
        ({"max_megapixels": -1}, "max_megapixels is -1"),
    ],
)
def test_values_of_composing_out_of_range_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        ComposeOptions(**values)


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        HarmonizeOptions().strength = 0.5
