from typing import get_args

from aict_hf.export.converter import STORED_DTYPES
from aict_hf.export.options import ExportFormat, GraphFormat, StoredDtype


def test_choices_are_those_of_the_code_behind_them():
    assert list(get_args(StoredDtype)) == list(STORED_DTYPES)
    assert {"hub", *get_args(GraphFormat)} == set(get_args(ExportFormat))
