"""What transformers' ImageProcessingTestMixin asks of every image processor, by the names that it has there."""

import json

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from transformers.image_utils import ChannelDimension, SizeDict
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from aict_hf import AICTImageProcessor

SIZE = {"height": 24, "width": 32}
PHOTO, MASK = make_photo()
DONE_ANYWAY = {
    "do_convert_rgb": True,
    "do_resize": True,
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": False,
    "image_mean": [0, 0, 0],
    "image_std": 1,
    "do_center_crop": False,
    "crop_size": None,
    "do_pad": False,
    "data_format": "channels_first",
    "disable_grouping": True,
}
NOT_DONE = {
    "do_convert_rgb": False,
    "do_resize": False,
    "resample": Image.Resampling.BICUBIC,
    "do_rescale": False,
    "rescale_factor": 1 / 127.5,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": (0.5, 0.5, 0.5),
    "do_center_crop": True,
    "crop_size": 224,
    "do_pad": True,
    "pad_size": {"height": 9, "width": 9},
    "data_format": ChannelDimension.LAST,
    "image_seq_length": 7,
}


@pytest.fixture
def processor():
    return AICTImageProcessor(size=SIZE)


def as_kind(kind, array):
    return {"pil": Image.fromarray, "numpy": np.asarray, "torch": torch.from_numpy}[kind](array)


@pytest.mark.parametrize("kind", ["pil", "numpy", "torch"])
def test_call(processor, kind):
    """`test_call_pil`, `test_call_numpy` and `test_call_pytorch`: alone and as a batch of mixed sizes."""
    photos, masks = zip(*[make_photo(40, 56), make_photo(21, 33), make_photo(64, 20)], strict=True)
    photos, masks = ([as_kind(kind, array) for array in arrays] for arrays in (photos, masks))
    alone = processor(photos[1], masks[1], return_tensors="pt")
    together = processor(photos, masks, return_tensors="pt")
    assert alone.pixel_values.shape == (1, 3, 24, 32)
    assert together.pixel_values.shape == (3, 3, 24, 32)
    assert together.mask.shape == (3, 1, 24, 32)
    assert torch.equal(together.pixel_values[1:2], alone.pixel_values)


@pytest.mark.filterwarnings("ignore:nothing visible lies outside")
def test_call_numpy_4_channels(processor):
    given = {"input_data_format": ChannelDimension.LAST, "image_mean": 0, "image_std": 1}
    assert processor(np.dstack([PHOTO, MASK]), return_tensors="pt", **given).pixel_values.shape == (1, 3, 24, 32)


def test_init_without_params():
    assert AICTImageProcessor().size == {"height": 256, "width": 256}


def test_image_processor_from_dict_with_kwargs():
    saved = AICTImageProcessor(size=SIZE).to_dict()
    assert AICTImageProcessor.from_dict(saved).size == SIZE
    for size in (42, (42, 42), [42, 42], SizeDict(height=42, width=42)):
        assert AICTImageProcessor.from_dict(saved, size=size).size == {"height": 42, "width": 42}
    with pytest.raises(ValueError, match="do_normalize=True is not supported"):
        AICTImageProcessor.from_dict(saved, do_normalize=True)
    _, unused = AICTImageProcessor.from_dict(saved, foo=1, return_unused_kwargs=True)
    assert unused == {"foo": 1}


@pytest.mark.parametrize("size", [{"shortest_edge": 224}, (1, 2, 3), 0, "256", 1.5])
def test_sizes_of_other_kinds_are_refused(processor, size):
    with pytest.raises(ValueError, match="expected a number of pixels or"):
        AICTImageProcessor(size=size)
    with pytest.raises(ValueError, match="expected a number of pixels or"):
        processor(PHOTO, MASK, size=size)


@pytest.mark.parametrize("given", [{}, DONE_ANYWAY], ids=["plain", "with keywords"])
def test_image_processor_to_json_string(given):
    written = json.loads(AICTImageProcessor(size=SIZE, **given).to_json_string())
    assert written["size"] == SIZE
    assert {name: written.get(name) for name in given} == given


@pytest.mark.parametrize("given", [{}, DONE_ANYWAY], ids=["plain", "with keywords"])
def test_image_processor_from_and_save_pretrained(tmp_path, given):
    """Also `test_image_processor_to_json_file` and `test_image_processor_save_load_with_autoimageprocessor`."""
    first = AICTImageProcessor(size=SIZE, **given)
    [file] = first.save_pretrained(tmp_path)
    for second in (
        AICTImageProcessor.from_pretrained(tmp_path),
        AICTImageProcessor.from_json_file(file),
        AutoImageProcessor.from_pretrained(tmp_path),
    ):
        assert type(second) is AICTImageProcessor
        assert second.to_dict() == first.to_dict()


def test_cast_dtype_device(processor):
    inputs = processor(PHOTO, MASK, return_tensors="pt", device="cpu")
    assert inputs.pixel_values.dtype == torch.float32
    assert inputs.pixel_values.device == torch.device("cpu")
    assert inputs.to("cpu", torch.bfloat16).mask.dtype == torch.bfloat16
    assert processor(PHOTO, MASK, return_tensors="pt", device="meta").pixel_values.is_meta
    with pytest.raises(ValueError, match=r'device is meta, .* pass return_tensors="pt"'):
        processor(PHOTO, MASK, device="meta")


def test_override_instance_attributes_does_not_affect_other_instances():
    first, second = AICTImageProcessor(), AICTImageProcessor()
    first.size["height"] = 7
    assert second.size == AICTImageProcessor().size == {"height": 256, "width": 256}


def test_image_processor_preprocess_arguments(processor):
    expected = processor(PHOTO, MASK, return_tensors="pt")
    for name, value in {**DONE_ANYWAY, "do_normalize": None, "device": None}.items():
        assert torch.equal(processor(PHOTO, MASK, return_tensors="pt", **{name: value}).mask, expected.mask)
    with pytest.raises(TypeError, match=r"unknown keyword do_resise; .* takes size, .*do_resize"):
        processor(PHOTO, MASK, do_resise=True)
    with pytest.raises(TypeError, match="unknown keyword sise"):
        AICTImageProcessor(sise=256)


@pytest.mark.parametrize("name", NOT_DONE)
def test_what_is_not_done_is_refused_by_name(processor, name):
    refused = {name: NOT_DONE[name]}
    with pytest.raises(ValueError, match=f"{name}=.* is not supported, .* has (no )?{name}.*; leave it out"):
        AICTImageProcessor(**refused)
    with pytest.raises(ValueError, match=f"{name}=.* is not supported"):
        processor(PHOTO, MASK, **refused)


def test_what_belongs_to_a_call_is_refused_when_it_is_made():
    with pytest.raises(ValueError, match="return_tensors='pt' belongs to the call"):
        AICTImageProcessor(return_tensors="pt")


def test_files_of_before_load_and_say_what_they_never_did(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    old = processor.to_dict() | {"do_normalize": True, "do_resize": True, "note": 1, "_load_id": "a"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    with pytest.warns(UserWarning, match="file says do_normalize=True, note=1, which has no effect here") as warned:
        again = AICTImageProcessor.from_pretrained(tmp_path)
    assert len(warned) == 1
    assert again.to_dict() == processor.to_dict() | {"do_resize": True, "_load_id": "a"}
    again.save_pretrained(tmp_path)
    assert AICTImageProcessor.from_pretrained(tmp_path).size == SIZE


class WithMore(AICTImageProcessor):
    def __init__(self, size=256, margin=0, **kwargs):
        super().__init__(size, **kwargs)
        self.margin = margin


def test_a_subclass_may_have_more_to_save(tmp_path):
    WithMore(SIZE, margin=3).save_pretrained(tmp_path)
    assert WithMore.from_pretrained(tmp_path).margin == 3
    assert not list(tmp_path.glob("*.py"))  # its own code is nobody else's
