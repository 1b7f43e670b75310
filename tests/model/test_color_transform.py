"""Every colour transformation: in photos, at pixels, in strips, in checkpoints and in the pipeline."""

import numpy as np
import pytest
import torch
from conftest import make_inputs, small_config
from PIL import Image
from transformers import pipeline

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel, Harmonizer
from aict_hf.harmonize.video import VideoHarmonizer
from aict_hf.model import color_transform, lut_reference
from aict_hf.model.color_transform import apply_transform, sample_transform
from aict_hf.model.lut_positions import pixel_positions

TRANSFORMS = {
    "curves": {"color_transform": "curves"},
    "Alt x2": {"color_transform": ["interval", "color", "interval", "color"]},
    "affine": {"color_transform": "affine"},
    "polynomial": {"color_transform": "affine", "affine_inputs": "polynomial"},
    "adaint_seplut": {"color_transform": "adaint_seplut"},
    "filters": {"color_transform": "filters"},
    "aict": {},
    "without weights": {"image_weight": "none"},
    "spatial": {"image_weight": "spatial"},
    "w/o R": {"weighted_channels": "gb"},
}
OTHERS = [name for name, fields in TRANSFORMS.items() if "color_transform" in fields]
TOLERANCE = 1e-5


def model_of(name, **fields):
    torch.manual_seed(0)
    model = AICTModel(AICTConfig.from_dict(small_config().to_dict() | TRANSFORMS[name] | fields))
    with torch.no_grad():  # far enough from the start that a mistake shows
        for key, weight in model.named_parameters():
            if "head" in key and not key.endswith("bias"):
                weight.add_(0.3 * torch.randn_like(weight) * weight.std())
    return model.eval()


@pytest.fixture(params=TRANSFORMS)
def name(request):
    return request.param


def photo_and_mask(height=50, width=70):
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(2, 1, height, width)
    mask[:, :, 10:40, 20:60] = 1
    mask[:, :, 12, 20:60] = 0.5
    return torch.rand(2, 3, height, width, generator=generator), mask


def maps_of(model):
    with torch.no_grad():
        return model(**make_inputs()).maps


def test_a_new_network_leaves_the_composite_nearly_as_it_is(name):
    torch.manual_seed(0)
    model = AICTModel(AICTConfig.from_dict(small_config().to_dict() | TRANSFORMS[name])).eval()
    inputs = make_inputs()
    with torch.no_grad():
        difference = (model(**inputs).harmonized - inputs["pixel_values"]).abs()
    assert (difference * inputs["mask"]).sum() / (3 * inputs["mask"].sum()) < 0.03


@pytest.mark.parametrize("name", OTHERS)
def test_the_background_is_untouched_and_the_foreground_is_not(name):
    model = model_of(name)
    photo, mask = photo_and_mask()
    result = apply_transform(model.config.transform_kind, photo, mask, *maps_of(model))
    outside = (mask == 0).expand_as(photo)
    assert result[outside].equal(photo[outside])
    assert (result - photo)[~outside].abs().mean() > 1e-3


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_strips_parts_and_the_whole_photo_agree(name, dtype, monkeypatch):
    model = model_of(name)
    kind, maps = model.config.transform_kind, maps_of(model)
    photo, mask = photo_and_mask()
    if dtype != torch.float32:
        photo = (photo * (255 if dtype == torch.uint8 else 65535)).to(dtype)
    whole = apply_transform(kind, photo, mask, *maps)
    monkeypatch.setattr(lut_reference, "STRIP_BYTES", 1)
    strips = apply_transform(kind, photo, mask, *maps)
    lower = apply_transform(kind, photo[:, :, 20:], mask[:, :, 20:], *maps, top=20, full_height=50)
    levels = 1 if dtype != torch.float32 else TOLERANCE
    for found, expected in ((strips, whole), (lower, whole[:, :, 20:])):
        assert (found.double() - expected.double()).abs().max() <= levels


@pytest.mark.parametrize("name", OTHERS)
def test_strength_blends_and_out_is_written(name):
    model = model_of(name)
    kind, maps = model.config.transform_kind, maps_of(model)
    photo, mask = photo_and_mask()
    whole, half = (apply_transform(kind, photo, mask, *maps, strength=share) for share in (1.0, 0.5))
    torch.testing.assert_close(half, (whole + photo) / 2, rtol=0, atol=TOLERANCE)
    assert apply_transform(kind, photo, mask, *maps, strength=0.0).equal(photo)
    out = photo.clone()
    assert apply_transform(kind, out, mask, *maps, out=out) is out
    assert out.equal(whole)


def test_pixels_sampled_singly_are_those_of_the_photo(name):
    model = model_of(name)
    kind, maps = model.config.transform_kind, maps_of(model)
    photo, mask = photo_and_mask()
    whole = apply_transform(kind, photo, torch.ones_like(mask), *maps)
    positions = pixel_positions(50, 70, slice(None), slice(None), photo).flatten(0, 1).expand(2, -1, -1)
    sampled = sample_transform(kind, photo.flatten(2), positions, *maps)
    torch.testing.assert_close(sampled, whole.flatten(2), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", OTHERS)
def test_every_weight_has_a_gradient_and_every_head_learns(name):
    model = model_of(name).train()
    photo, mask = photo_and_mask()
    output = model(**make_inputs(), full_composites=photo, full_masks=mask, labels=photo.flip(1))
    output.loss.backward()
    for key, weight in model.named_parameters():  # one without gradient would stop a run on several GPUs
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
        assert weight.grad.abs().sum() > 0 or "head" not in key, key


def test_a_checkpoint_saves_loads_and_goes_through_the_pipeline_and_the_harmonizer(name, tmp_path):
    model = model_of(name)
    model.save_pretrained(tmp_path)
    processor = AICTImageProcessor(size=32)
    processor.save_pretrained(tmp_path)
    loaded = AICTModel.from_pretrained(tmp_path)
    assert loaded.config.to_dict() == model.config.to_dict() | {"dtype": "float32"} | {
        key: loaded.config.to_dict()[key] for key in ("architectures", "transformers_version", "_name_or_path")
    }
    rng = np.random.default_rng(0)
    photo, mask = rng.integers(0, 256, (40, 56, 3), np.uint8), np.zeros((40, 56), np.uint8)
    mask[10:30, 20:40] = 255
    inputs = processor(photo, mask, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    kind = model.config.transform_kind
    [expected] = processor.post_process_harmonization(outputs, photo, mask, kind=kind)
    [distance] = processor.disharmony(outputs, photo, mask, kind=kind)
    assert (expected[mask == 0] == photo[mask == 0]).all()
    pipe = pipeline("image-harmonization", model=loaded, image_processor=processor)
    assert (np.asarray(pipe(Image.fromarray(photo), Image.fromarray(mask))) == expected).all()
    [predicted] = Harmonizer(loaded, processor).predict(photo, mask)
    assert (predicted.apply() == expected).all()
    assert predicted.disharmony() == pytest.approx(distance)
    video = VideoHarmonizer(Harmonizer(loaded, processor), fps=10)
    frames = [video(photo, mask) for _ in range(2)]
    assert (np.abs(frames[1].astype(int) - expected) <= 1).all()


@pytest.mark.slow
def test_compiles_as_one_graph(name):
    torch.compiler.reset()
    model = model_of(name)
    inputs = make_inputs()
    with torch.no_grad():
        expected = model(**inputs).harmonized
        found = torch.compile(model, backend="aot_eager", fullgraph=True)(**inputs).harmonized
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_half_precision_computes_float32_maps(name):
    model = model_of(name).to(torch.bfloat16)
    inputs = {key: value.to(torch.bfloat16) for key, value in make_inputs().items()}
    with torch.no_grad():
        output = model(**inputs)
    assert {maps.dtype for maps in output.maps} == {torch.float32}


def test_color_statistics_reach_the_heads_that_use_them(name):
    model = model_of(name, color_statistics=True)
    outputs = {"curves": 3, "Alt x2": 6, "w/o R": 2, "aict": 3}
    weights = outputs.get(name, 0) * model.config.num_intervals or getattr(model.transform_head, "global_outputs", 0)
    proj = model.color_statistics.proj
    assert (0 if proj is None else proj.out_features) == weights
    with torch.no_grad():
        assert model(**make_inputs()).harmonized.isfinite().all()


def test_channels_without_weights_keep_their_colour_lut():
    model = model_of("w/o R")
    with torch.no_grad():
        output = model(**make_inputs())
    nodes = model.config.num_intervals
    assert (output.image_weight[:, :nodes] == 1).all()
    assert (output.image_weight[:, nodes:] != 1).all()


def test_without_weights_the_colour_lut_is_the_heads():
    model = model_of("without weights")
    assert model.image_weight_head is None
    with torch.no_grad():
        assert model(**make_inputs()).image_weight is None


def test_spatial_weights_multiply_all_nodes_of_a_position():
    model = model_of("spatial")
    with torch.no_grad():
        before = model(**make_inputs())
        model.image_weight_head.weight.zero_()
        model.image_weight_head.bias.fill_(2.0)
        after = model(**make_inputs())
    assert before.image_weight.shape == (2, 1, *before.color_lut.shape[3:])
    torch.testing.assert_close(after.color_lut, 2 * before.color_lut / before.image_weight[:, :, None])


def test_aict_takes_its_own_operator(monkeypatch):
    photo, mask = photo_and_mask()
    maps = maps_of(model_of("aict"))
    monkeypatch.setattr(color_transform, "apply_luts", lambda *given, **options: (given, options))
    given, options = apply_transform("aict", photo, mask, *maps, strength=0.5, top=3, full_height=60)
    assert all(ours is theirs for ours, theirs in zip(given, (photo, mask, *maps), strict=True))
    assert options == {"strength": 0.5, "out": None, "top": 3, "full_height": 60}


def test_only_the_columns_with_foreground_are_recoloured(monkeypatch):
    maps, sizes = maps_of(model_of("affine")), []
    pixels = color_transform.PIXELS["affine"]

    def counted(colors, *at_pixels):
        sizes.append(tuple(colors.shape[2:]))
        return pixels(colors, *at_pixels)

    monkeypatch.setitem(color_transform.PIXELS, "affine", counted)
    photo, mask = photo_and_mask()
    apply_transform("affine", photo, mask, *maps)
    assert sizes == [(50, 40)]


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_in_strips_are_those_of_the_whole(name, monkeypatch):
    model = model_of(name)
    kind, maps = model.config.transform_kind, [values.clone().requires_grad_() for values in maps_of(model)]
    photo, mask = photo_and_mask()
    target = torch.rand_like(photo)

    def gradients():
        loss = ((apply_transform(kind, photo, mask, *maps) - target) ** 2).sum()
        return torch.autograd.grad(loss, maps)

    whole = gradients()
    monkeypatch.setattr(lut_reference, "STRIP_BYTES", 1)
    for ours, theirs in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_autocast_computes_float32_maps(name):
    model = model_of(name)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(**make_inputs())
    assert {maps.dtype for maps in output.maps} == {torch.float32}


def test_wrapped_heads_still_get_their_features():
    """As peft's `modules_to_save` wraps them."""

    class Wrapped(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *given):
            return self.inner(*given)

    for name in ("aict", "spatial"):
        model = model_of(name)
        with torch.no_grad():
            expected = model(**make_inputs()).harmonized
            model.image_weight_head = Wrapped(model.image_weight_head)
            assert model(**make_inputs()).harmonized.equal(expected)


def test_outputs_of_another_kind_are_refused():
    processor, photo, mask = AICTImageProcessor(size=32), np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    mask[:2] = 255
    for name, kind, words in (
        ("affine", "aict", r"another colour transformation than kind aict; pass kind=model\.config\.transform_kind"),
        ("aict", "affine", r"another colour transformation than kind affine; pass kind="),
        ("affine", "filters", "are not those of filters for 1 photos; pass the network's own"),
        ("filters", "chain", "are not those of chain"),
        ("affine", "curves", r"kind is 'curves'; expected one of aict, chain, .*: pass config\.transform_kind"),
    ):
        with torch.no_grad():
            outputs = model_of(name)(**processor(photo, mask, return_tensors="pt"))
        for measure in (processor.post_process_harmonization, processor.disharmony):
            with pytest.raises(ValueError, match=words):
                measure(outputs, photo, mask, kind=kind)


def test_photos_that_do_not_fit_are_refused():
    photo, mask = photo_and_mask()
    maps = maps_of(model_of("affine"))
    with pytest.raises(ValueError, match="resize the mask"):
        apply_transform("affine", photo, mask[:, :, 1:], *maps)
    for options, words in (
        ({"strength": 2}, "strength is 2"),
        ({"out": photo.to(torch.uint8)}, "out has shape .* dtype torch.uint8"),
        ({"top": 100, "full_height": 40}, "beyond the 40 rows of the photo"),
    ):
        with pytest.raises(ValueError, match=words):
            apply_transform("affine", photo, mask, *maps, **options)
    with pytest.raises(ValueError, match="are not those of affine for 2 photos"):
        apply_transform("affine", photo, mask, maps[0][:1])
