import pickle
from pathlib import Path

import pytest

from aict_hf.errors import InputError, NothingPastedError, TooLargeError, UnpairedError, one_line

ERRORS = [
    TooLargeError(Path("a.png"), (30, 20), 0.5),
    NothingPastedError((30, 20)),
    NothingPastedError((30, 20), "a feather of 9 pixels"),
    UnpairedError(Path("a.png"), "has no mask"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_with_fields_are_input_errors_and_survive_pickling(error):
    assert isinstance(error, InputError)
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_messages_name_the_fields():
    large, missed, feathered, unpaired = map(str, ERRORS)
    assert large.startswith("a.png: has 30 x 20 pixels, over the limit of 0.5 megapixels; ")
    assert "30 x 20" in missed
    assert feathered == "a feather of 9 pixels"
    assert unpaired == "a.png: has no mask"


def test_line_breaks_are_taken_out():
    assert one_line(ValueError("two\n   lines")) == "two lines"
