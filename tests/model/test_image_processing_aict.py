import base64

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from aict_hf import AICTImageProcessor
from aict_hf.files.images import ImageFile, write_image
from aict_hf.model import opened_photo
from aict_hf.model.opened_photo import open_photo


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


def test_exif_orientation_of_files_is_applied(processor, tmp_path):
    photo, mask = make_photo()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(photo).rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    result = processor(tmp_path / "turned.png", mask, return_tensors="np")
    np.testing.assert_array_equal(result["pixel_values"], processor(photo, mask, return_tensors="np")["pixel_values"])


def test_saving_and_loading(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert AICTImageProcessor.from_pretrained(tmp_path).size == {"height": 32, "width": 32}


def test_input_data_format_settles_ambiguous_layouts(processor):
    tall = np.zeros((3, 40, 3), np.uint8)
    tall[0] = 255
    first = processor(tall, np.zeros((40, 3), np.uint8), input_data_format="channels_first", return_tensors="np")
    last = processor(tall, np.zeros((3, 40), np.uint8), return_tensors="np")
    assert first["pixel_values"][0, 0].min() == 1
    assert last["pixel_values"][0, 0].min() == 0


PHOTO, MASK = make_photo()


@pytest.mark.parametrize(
    ("photo", "mask", "words"),
    [
        (PHOTO, MASK[:-1], "mask is 56 x 39, composite is 56 x 40; resize the mask"),
        (PHOTO, None, "no mask was given and the image has no alpha"),
        (PHOTO, (MASK > 9).astype(np.uint8), "holds only 0 and 1"),
        (PHOTO, MASK.astype(np.int64), "mask has dtype int64"),
        (PHOTO / np.float32(255) * 1.5, MASK, "floats must lie in"),
        (np.where(PHOTO > 128, np.nan, 0.5), MASK, "not be NaN"),
        (PHOTO[:, :, :1].repeat(5, axis=2), MASK, "expected 1, 2, 3 or 4 channels"),
        (PHOTO.astype(np.int32), MASK, "image has dtype int32"),
        (PHOTO > 3, MASK, "image has dtype bool"),
        (PHOTO.astype(complex), MASK, "complex128"),
        (np.zeros((0, 4, 3), np.uint8), MASK, "expected"),
        (Image.new("F", (56, 40)), MASK, "mode F has no fixed range"),
        (42, MASK, "image is a int"),
        ([], [], "no images were given"),
        ([PHOTO, PHOTO], [MASK], "2 images came with 1 masks"),
        (__file__, MASK, "cannot be read as an image"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(processor, photo, mask, words):
    with pytest.raises(ValueError, match=words):
        processor(photo, mask, return_tensors="pt")


def test_errors_name_the_image_they_are_about(processor, tmp_path):
    with pytest.raises(ValueError, match="image 1: mask is"):
        processor([PHOTO, PHOTO], [MASK, MASK[:-1]])
    Image.fromarray(MASK[:-1]).save(tmp_path / "short.png")
    with pytest.raises(ValueError, match=r"short\.png: mask is"):
        processor(PHOTO, tmp_path / "short.png")


def test_colour_files_of_16_bits_are_not_cut_silently(processor, tmp_path):
    write_image(tmp_path / "deep.png", ImageFile(PHOTO.astype(np.uint16) * 257))
    with pytest.raises(ValueError, match=r"deep\.png has 16 bits a channel, which Pillow would cut"):
        processor(tmp_path / "deep.png", MASK)


def test_other_byte_orders_come_back_as_they_were(model, processor):
    outputs = model(**processor(PHOTO, MASK, return_tensors="pt"))
    native = PHOTO.astype(np.uint16) * 257
    [expected] = processor.post_process_harmonization(outputs, native, MASK)
    [swapped] = processor.post_process_harmonization(outputs, native.astype(">u2"), MASK)
    assert swapped.dtype == np.dtype(">u2")
    assert np.array_equal(swapped, expected)
    gray = Image.frombytes("I;16B", (56, 40), native[..., 0].astype(">u2").tobytes())
    [result] = processor.post_process_harmonization(outputs, gray, MASK)
    assert result.mode == "I;16B"
    assert np.array_equal(np.array(result)[MASK == 0], native[..., 0][MASK == 0])


def test_results_carry_no_gradient(model, processor):
    outputs = model(**processor(PHOTO, MASK, return_tensors="pt"))
    assert outputs.knots.requires_grad
    photo = torch.from_numpy(PHOTO / np.float32(255))
    [result] = processor.post_process_harmonization(outputs, photo, MASK)
    assert not result.requires_grad
    processor.post_process_harmonization(outputs, photo.numpy(), MASK)


def test_a_missing_file_is_named(processor, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        processor(tmp_path / "nowhere.png", MASK)


def test_post_processing_refuses_other_counts_and_strengths(model, processor):
    outputs = model(**processor(PHOTO, MASK, return_tensors="pt"))
    with pytest.raises(ValueError, match="outputs holds 1 images, composites 2"):
        processor.post_process_harmonization(outputs, [PHOTO] * 2, [MASK] * 2)
    with pytest.raises(ValueError, match="strength is -1"):
        processor.post_process_harmonization(outputs, PHOTO, MASK, strength=-1)
    with pytest.raises(ValueError, match="size is"):
        AICTImageProcessor(size={"shortest_edge": 3})


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


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_that_is_opaque_everywhere_is_no_mask(processor, mode):
    image = Image.fromarray(PHOTO).convert(mode)
    with pytest.raises(ValueError, match="alpha channel is opaque everywhere; pass a mask"):
        processor(image)
    processor(image, MASK)


def test_a_missing_background_is_said(processor):
    with pytest.warns(UserWarning, match="the mask covers the whole picture; there is no background"):
        processor(PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8))
    with pytest.warns(UserWarning, match="image 1: nothing visible lies outside the foreground"):
        processor([PHOTO, np.dstack([PHOTO, MASK])], [MASK, None])


def test_a_mask_of_the_unturned_photo_is_told_from_one_of_another_size(processor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PHOTO).save(tmp_path / "phone.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"mask is 56 x 40, composite is 40 x 56; one of them is turned: .*EXIF"):
        processor(tmp_path / "phone.jpg", MASK)


def test_base64_and_data_addresses_are_files(processor, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    text = base64.b64encode((tmp_path / "photo.png").read_bytes()).decode()
    expected = processor(PHOTO, MASK)["pixel_values"]
    lines = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    for given in (text, lines, text.rstrip("="), "data:image/png;base64," + text, "data:;base64," + text):
        assert np.array_equal(processor(given, MASK)["pixel_values"], expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("data:image/png;base64,AAAA", "data address .* cannot be read as an image"),
        ("data:image/png;base64,?!", "is damaged"),
        ("data:image/svg+xml,%3Csvg", "is not base64"),
        ("A" * 6000, "base64 A+... of 6000 characters cannot be read"),
        ("no such thing / " * 600, "is no file, and neither an address nor base64"),
        ("http://127.0.0.1:9/photo.png", "cannot be downloaded .*check the address"),
        ("https://", "cannot be downloaded"),
    ],
)
def test_addresses_that_lead_nowhere_are_short_errors(processor, given, words):
    with pytest.raises(ValueError, match=words) as raised:
        processor(given, MASK)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)
