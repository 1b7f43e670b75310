import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image

from aict_hf import AICTImageProcessor


def as_given(kind, photo, mask, folder):
    if kind == "path":
        paths = folder / "photo.png", folder / "mask.png"
        Image.fromarray(photo).save(paths[0])
        Image.fromarray(mask).save(paths[1])
        return paths
    return {
        "pil": (Image.fromarray(photo), Image.fromarray(mask)),
        "numpy": (photo, mask),
        "numpy channels first": (photo.transpose(2, 0, 1), mask[None]),
        "numpy flipped twice": (photo[::-1].copy()[::-1], mask[:, ::-1].copy()[:, ::-1]),
        "numpy float": (photo.astype(np.float32) / 255, mask.astype(np.float64) / 255),
        "numpy uint16": (photo.astype(np.uint16) * 257, mask.astype(np.uint16) * 257),
        "torch": (torch.from_numpy(photo).permute(2, 0, 1), torch.from_numpy(mask)[None]),
        "torch channels last": (torch.from_numpy(photo), torch.from_numpy(mask)),
        "rgb mask": (Image.fromarray(photo), Image.fromarray(mask).convert("RGB")),
        "rgba image": (Image.fromarray(np.dstack([photo, mask])), None),
        "rgba array": (np.dstack([photo, mask]), None),
    }[kind]


KINDS = [
    "pil", "path", "numpy", "numpy channels first", "numpy flipped twice", "numpy float", "numpy uint16", "torch",
    "torch channels last", "rgb mask", "rgba image", "rgba array",
]  # fmt: skip


NOTHING_VISIBLE = "ignore:nothing visible lies outside the foreground"  # the alpha channel is the mask


@pytest.mark.filterwarnings(NOTHING_VISIBLE)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_the_same_network_inputs(processor, tmp_path, kind):
    photo, mask = make_photo()
    expected = processor(photo, mask, return_tensors="pt")
    result = processor(*as_given(kind, photo, mask, tmp_path), return_tensors="pt")
    assert result["pixel_values"].shape == (1, 3, 32, 32)
    assert result["mask"].shape == (1, 1, 32, 32)
    if not kind.startswith("rgba"):  # what lies under transparent pixels is no background
        torch.testing.assert_close(result["pixel_values"], expected["pixel_values"], rtol=0, atol=1e-6)
    torch.testing.assert_close(result["mask"], expected["mask"], rtol=0, atol=1e-6)


@pytest.mark.filterwarnings(NOTHING_VISIBLE)
@pytest.mark.parametrize("kind", KINDS)
def test_result_is_of_the_type_size_and_mode_that_came(model, processor, tmp_path, kind):
    photo, mask = make_photo()
    given, given_mask = as_given(kind, photo, mask, tmp_path)
    with torch.no_grad():
        outputs = model(**processor(given, given_mask, return_tensors="pt"))
        [result] = processor.post_process_harmonization(outputs, given, given_mask)
        [expected] = processor.post_process_harmonization(outputs, photo, mask)
        [same] = processor.post_process_harmonization(outputs, given, given_mask, strength=0.0)
    original = Image.open(given) if kind == "path" else given
    assert isinstance(result, Image.Image if kind == "path" else type(original))
    if isinstance(result, Image.Image):
        assert (result.size, result.mode) == (original.size, original.mode)
    else:
        assert (result.shape, result.dtype) == (original.shape, original.dtype)
    assert np.array_equal(np.asarray(same), np.asarray(original))
    rgb = np.asarray(result)
    rgb = rgb.transpose(1, 2, 0) if rgb.shape[0] == 3 else rgb
    scale = {"float32": 255, "uint16": 255 / 65535}.get(str(rgb.dtype), 1)
    assert not np.array_equal(expected, photo)
    assert (
        np.abs(rgb[..., :3] * scale - expected).max() <= 0.5 + 1e-3
        if scale != 1
        else np.array_equal(rgb[..., :3], expected)
    )
    if rgb.shape[-1] == 4:
        assert np.array_equal(rgb[..., 3], mask)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_pil_mode_keeps_mode_alpha_and_background(model, processor, mode):
    photo, mask = make_photo()
    image = Image.fromarray(photo)
    image = image.quantize(64) if mode == "P" else image.convert(mode if mode != "I;16" else "L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257 + 3)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(mask.T.reshape(mask.shape).copy()))
    before = image.copy()
    with torch.no_grad():
        outputs = model(**processor(image, mask, return_tensors="pt"))
        [result] = processor.post_process_harmonization(outputs, image, mask)
        [same] = processor.post_process_harmonization(outputs, image, mask, strength=0.0)
    assert (result.mode, result.size) == (image.mode, image.size)
    background = mask == 0
    assert np.array_equal(np.asarray(result)[background], np.asarray(before)[background])
    assert not np.array_equal(np.asarray(result), np.asarray(before))
    assert np.array_equal(np.asarray(same), np.asarray(before))
    assert np.array_equal(np.asarray(image), np.asarray(before))
    if mode in ("LA", "RGBA"):
        assert np.array_equal(np.asarray(result)[..., -1], np.asarray(before)[..., -1])


def test_hard_masks_may_be_bool_or_bilevel(processor):
    photo, mask = make_photo()
    expected = processor(photo, (mask > 99).astype(np.uint8) * 255, return_tensors="pt")
    for hard in (mask > 99, torch.from_numpy(mask > 99)[None], Image.fromarray(mask > 99), (mask > 99).astype(float)):
        assert torch.equal(processor(photo, hard, return_tensors="pt")["mask"], expected["mask"])


def test_images_of_different_sizes_are_one_batch(model, processor):
    pairs = [make_photo(40, 56), make_photo(33, 21, seed=1)]
    photos, masks = zip(*pairs, strict=True)
    inputs = processor(images=list(photos), masks=list(masks), return_tensors="pt")
    with torch.no_grad():
        results = processor.post_process_harmonization(model(**inputs), list(photos), list(masks))
        for photo, mask, result in zip(photos, masks, results, strict=True):
            outputs = model(**processor(photo, mask, return_tensors="pt"))
            [single] = processor.post_process_harmonization(outputs, photo, mask)
            assert np.abs(single.astype(int) - result).max() <= 1


def test_stacked_arrays_are_lists(processor):
    photos, masks = np.stack([make_photo()[0]] * 3), np.stack([make_photo()[1]] * 3)
    assert processor(photos, masks[..., None], return_tensors="np")["pixel_values"].shape == (3, 3, 32, 32)


def test_an_empty_mask_changes_nothing(model, processor):
    photo, mask = make_photo()
    with torch.no_grad():
        outputs = model(**processor(photo, mask * 0, return_tensors="pt"))
        [result] = processor.post_process_harmonization(outputs, photo, mask * 0)
    assert np.array_equal(result, photo)


def test_saving_and_loading(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert AICTImageProcessor.from_pretrained(tmp_path).size == {"height": 32, "width": 32}


PHOTO, MASK = make_photo()


def test_results_carry_no_gradient(model, processor):
    outputs = model(**processor(PHOTO, MASK, return_tensors="pt"))
    assert outputs.knots.requires_grad
    photo = torch.from_numpy(PHOTO / np.float32(255))
    [result] = processor.post_process_harmonization(outputs, photo, MASK)
    assert not result.requires_grad
    processor.post_process_harmonization(outputs, photo.numpy(), MASK)


def test_post_processing_refuses_other_counts_and_strengths(model, processor):
    outputs = model(**processor(PHOTO, MASK, return_tensors="pt"))
    with pytest.raises(ValueError, match="outputs holds 1 images, composites 2"):
        processor.post_process_harmonization(outputs, [PHOTO] * 2, [MASK] * 2)
    with pytest.raises(ValueError, match="strength is -1"):
        processor.post_process_harmonization(outputs, PHOTO, MASK, strength=-1)
    with pytest.raises(ValueError, match="size is"):
        AICTImageProcessor(size={"shortest_edge": 3})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_under_transparent_pixels_do_not_count(model, processor, dtype):
    photo, mask = make_photo()
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    alpha = np.full(mask.shape, white, dtype)
    alpha[:, :7], alpha[:, 7:9] = 0, white / 2
    results = []
    for hidden in (0, white):
        rgba = np.dstack([(photo / 255 * white).astype(dtype), alpha])
        rgba[:, :7, :3] = hidden
        inputs = processor(rgba, mask, return_tensors="pt")
        results.append(inputs["pixel_values"])
        outputs = model(**inputs)
        [result] = processor.post_process_harmonization(outputs, rgba, np.full(mask.shape, 200, np.uint8))
        assert np.array_equal(result[:, :7], rgba[:, :7])  # what nobody sees is no foreground either
    assert torch.equal(*results)
    opaque = processor(photo, mask, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(results[0][..., 8:], opaque[..., 8:], rtol=0, atol=1 / 255)
