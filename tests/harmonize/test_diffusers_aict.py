import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photo
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLAutoBlocks,
    UNet2DConditionModel,
)
from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam, SequentialPipelineBlocks
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import aict_hf.harmonize.diffusers_aict
from aict_hf import ImageHarmonizationPipeline
from aict_hf.harmonize.diffusers_aict import AICTHarmonizePipeline, AICTHarmonizeStep

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HALF_PRECISION = 16  # levels; of random LUTs far from the identity


@pytest.fixture
def pipe(model, processor):
    pipe = AICTHarmonizePipeline(model, processor)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_unet(**kwargs):
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        **kwargs,
    ).eval()


def tiny_vae():
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=[8, 16],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        norm_num_groups=4,
    ).eval()


def tiny_stable_diffusion(kind, in_channels):
    """A pipeline with random weights that generates 64 x 64 pixels and spells its prompts."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *[f"{letter}</w>" for letter in letters], "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77
    )
    unet, vae = tiny_unet(in_channels=in_channels), tiny_vae()
    text_config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    pipe = kind(
        vae=vae,
        text_encoder=CLIPTextModel(text_config).eval(),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def photo_and_mask(height=80, width=100, seed=0):
    photo, mask = map(Image.fromarray, make_photo(height, width, seed=seed))
    return photo, mask


def hard(mask):
    return mask.point(lambda level: 255 * (level > 127))


@pytest.fixture
def inpainted():
    """A photo, its mask, and what an inpainting pipeline made of it, in the pipeline's size."""
    photo, mask = photo_and_mask()
    inpaint = tiny_stable_diffusion(StableDiffusionInpaintPipeline, in_channels=9)
    generator = torch.Generator().manual_seed(0)
    [generated] = inpaint(
        "a cat", image=photo, mask_image=mask, num_inference_steps=2, generator=generator, output_type="pil"
    ).images
    return photo, mask, generated


def levels(image):
    return np.asarray(image).astype(int)


def test_the_background_is_the_photo_and_the_foreground_is_harmonized(pipe, inpainted):
    photo, mask, generated = inpainted
    assert generated.size == (64, 64)
    outside = levels(mask) == 0
    assert (levels(generated.resize(photo.size)) != levels(photo))[outside].any()  # inpainting repaints everything
    [harmonized] = pipe(generated, mask, original_image=photo).images
    [composite] = pipe(generated, mask, original_image=photo, strength=0).images
    assert harmonized.size == photo.size
    assert harmonized.mode == "RGB"
    assert (levels(harmonized) == levels(photo))[outside].all()
    assert np.abs(levels(harmonized) - levels(composite))[~outside].mean() > 5


def test_strength_0_returns_what_was_generated(pipe, inpainted):
    _, _, generated = inpainted
    photo, mask = photo_and_mask(64, 64)
    [result] = pipe(generated, hard(mask), original_image=photo, strength=0).images
    inside = levels(hard(mask)) > 0
    assert (levels(result) == levels(generated))[inside].all()
    assert (levels(result) == levels(photo))[~inside].all()
    changes = [
        np.abs(levels(pipe(generated, mask, original_image=photo, strength=strength).images[0]) - levels(result)).sum()
        for strength in (0.5, 1)
    ]
    assert 0 < changes[0] < changes[1]


def test_what_was_generated_smaller_is_resized_to_the_photo(pipe):
    (photo, mask), (generated, _) = photo_and_mask(), photo_and_mask(64, 64, seed=1)
    [result] = pipe(generated, hard(mask), original_image=photo, strength=0).images
    expected = levels(generated.resize(photo.size, Image.Resampling.BICUBIC))
    assert np.abs(levels(result) - expected)[levels(hard(mask)) > 0].max() <= 1  # Pillow rounds between the axes


def test_soft_masks_blend(pipe):
    (photo, mask), (generated, _) = photo_and_mask(), photo_and_mask(seed=1)
    opacity = levels(mask)[..., None] / 255
    expected = opacity * levels(generated) + (1 - opacity) * levels(photo)
    [composite] = pipe(generated, mask, original_image=photo, strength=0).images
    assert ((opacity > 0) & (opacity < 1)).any()
    assert np.abs(levels(composite) - expected).max() <= 0.501
    harmonized = pipe(generated, mask, original_image=photo).images[0]
    assert np.array_equal(harmonized, pipe(composite, mask).images[0])


def test_it_harmonizes_as_the_transformers_pipeline_does(pipe):
    photo, mask = photo_and_mask()
    reference = ImageHarmonizationPipeline(model=pipe.model, image_processor=pipe.image_processor)
    assert np.array_equal(pipe(photo, mask, strength=0.7).images[0], reference(photo, mask, strength=0.7))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_of_mixed_sizes_equal_one_by_one(pipe, batch_size):
    photos, masks = zip(*[photo_and_mask(*size) for size in [(40, 56), (80, 100), (33, 21)]], strict=True)
    generated = [photo_and_mask(64, 64, seed=seed)[0] for seed in range(3)]
    together = pipe(generated, list(masks), original_image=list(photos), batch_size=batch_size).images
    assert len(together) == 3
    for result, image, mask, photo in zip(together, generated, masks, photos, strict=True):
        alone = pipe(image, mask, original_image=photo).images[0]
        assert np.abs(levels(result) - levels(alone)).max() <= (batch_size > 1)


def test_several_images_may_share_one_mask_and_photo(pipe):
    photo, mask = photo_and_mask()
    generated = [photo_and_mask(64, 64, seed=seed)[0] for seed in (1, 2)]
    shared = pipe(generated, mask, original_image=photo).images
    separate = pipe(generated, [mask, mask], original_image=[photo, photo]).images
    assert all(np.array_equal(*pair) for pair in zip(shared, separate, strict=True))
    assert not np.array_equal(*shared)


def test_output_types_hold_the_same_image(pipe):
    photos, masks = zip(*[photo_and_mask(seed=seed) for seed in (0, 1)], strict=True)
    pil = pipe(photos, masks).images
    (array,) = pipe(photos, masks, output_type="np", return_dict=False)
    tensor = pipe(photos, masks, output_type="pt").images
    assert array.shape == (2, 80, 100, 3)
    assert array.dtype == np.float32
    assert tensor.shape == (2, 3, 80, 100)
    assert tensor.dtype == torch.float32
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
    assert np.abs(array * 255 - np.stack(pil)).max() <= 0.501
    smaller, its_mask = photo_and_mask(40, 56)
    mixed = pipe([photos[0], smaller], [masks[0], its_mask], output_type="np").images
    assert [result.shape for result in mixed] == [(80, 100, 3), (40, 56, 3)]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_photos_of_other_depths_come_out_as_their_8_bits(pipe, inpainted, dtype):
    photo, mask, generated = inpainted
    original = levels(photo) * 257 if dtype == np.uint16 else levels(photo) / 255
    [result] = pipe(generated, mask, original_image=original.astype(dtype), strength=0).images
    [expected] = pipe(generated, mask, original_image=photo, strength=0).images
    assert np.array_equal(levels(result), levels(expected))


@pytest.mark.parametrize("output_type", ["np", "pt"])
def test_float_outputs_have_the_photos_own_values_outside_the_mask(pipe, inpainted, output_type):
    photo, mask, generated = inpainted
    [result] = pipe(generated, mask, original_image=photo, output_type=output_type).images
    result = result if output_type == "np" else result.permute(1, 2, 0).numpy()
    outside = levels(mask) == 0
    assert (result == np.asarray(photo, np.float32) / 255)[outside].all()


def test_arrays_tensors_and_files_are_read_as_diffusers_returns_them(pipe, tmp_path):
    photo, mask = photo_and_mask()
    photo.save(tmp_path / "photo.png")
    expected = pipe(photo, mask).images[0]
    array, opacity = np.asarray(photo, np.float32) / 255, np.asarray(mask, np.float32) / 255
    batch, masks = np.stack([array, array]), np.stack([opacity, opacity])
    given = [
        (tmp_path / "photo.png", mask),
        (batch, masks),
        (batch, masks[..., None]),
        (list(batch), opacity[..., None]),
        (torch.from_numpy(batch).permute(0, 3, 1, 2), torch.from_numpy(masks)),
        (torch.from_numpy(batch).permute(0, 3, 1, 2), torch.from_numpy(masks)[:, None]),
        (torch.from_numpy(array).permute(2, 0, 1), torch.from_numpy(opacity)[None]),
        (array, opacity > 0.5),
    ]
    for image, mask_image in given[:-1]:
        for result in pipe(image, mask_image).images:
            assert np.abs(levels(result) - levels(expected)).max() <= 1
    assert np.array_equal(pipe(*given[-1]).images[0], pipe(array, hard(mask)).images[0])


def test_in_bfloat16_the_background_stays_exact(pipe, inpainted):
    photo, mask, generated = inpainted
    expected = pipe(generated, mask, original_image=photo).images[0]
    pipe.to(torch.bfloat16)
    assert pipe.dtype == torch.bfloat16
    [result] = pipe(generated, mask, original_image=photo).images
    assert np.abs(levels(result) - levels(expected)).max() <= HALF_PRECISION
    assert (levels(result) == levels(photo))[levels(mask) == 0].all()


def test_the_progress_bar_is_configurable(pipe, capsys):
    photo, mask = photo_and_mask()
    pipe([photo, photo], mask)
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config(desc="harmonizing")
    pipe([photo, photo], mask)
    assert "harmonizing" in capsys.readouterr().err


def test_it_survives_saving(pipe, inpainted, forks, tmp_path):
    photo, mask, generated = inpainted
    pipe.save_pretrained(tmp_path / "saved")
    again = AICTHarmonizePipeline.from_pretrained(tmp_path / "saved")
    expected = pipe(generated, mask, original_image=photo).images[0]
    assert np.array_equal(again(generated, mask, original_image=photo).images[0], expected)
    for name, image in {"photo": photo, "mask": mask, "generated": generated}.items():
        image.save(tmp_path / f"{name}.png")
    code = """
from aict_hf.harmonize.diffusers_aict import AICTHarmonizePipeline
pipe = AICTHarmonizePipeline.from_pretrained("saved")
pipe("generated.png", "mask.png", original_image="photo.png").images[0].save("out.png")
"""
    forks.lines(["-c", code], tmp_path)
    assert np.array_equal(Image.open(tmp_path / "out.png"), expected)


PHOTO, MASK = photo_and_mask()
SMALL, SMALL_MASK = photo_and_mask(64, 64)


@pytest.mark.parametrize(
    ("image", "mask_image", "options", "message"),
    [
        ([], MASK, {}, "image is an empty list; pass"),
        (PHOTO, None, {}, "image 0: mask_image is None; pass"),
        (PHOTO, [MASK, MASK], {}, "image holds 1 images, mask_image 2; pass one for each"),
        ([PHOTO] * 3, MASK, {"original_image": [PHOTO] * 2}, "image holds 3 images, original_image 2; pass"),
        ([PHOTO] * 3, np.zeros((2, 80, 100)), {}, "image holds 3 images, mask_image 2; pass"),
        (SMALL, MASK, {}, "mask_image is 100 x 80, image is 64 x 64; .* or pass .* as original_image"),
        ([SMALL, SMALL], [MASK, SMALL_MASK], {"original_image": PHOTO}, "image 1: mask_image is 64 x 64, original_"),
        (PHOTO, MASK, {"output_type": "latent"}, "output_type is 'latent'; expected one of pil, np, pt"),
        (PHOTO, MASK, {"strength": 1.5}, "strength is 1.5; expected a share from 0 to 1"),
        (PHOTO, MASK, {"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        (torch.full((3, 80, 100), -1.0), MASK, {}, r"image 0: image has values from -1 to -1; floats must lie in \[0"),
        (PHOTO, MASK, {"original_image": np.zeros((80, 100, 5))}, "original_image has shape .* expected 1, 2, 3 or 4"),
        (7, MASK, {}, "image 0: image is a int; expected"),
    ],
)
def test_bad_input_is_explained(pipe, image, mask_image, options, message):
    with pytest.raises(ValueError, match=message):
        pipe(image, mask_image, **options)


def test_without_diffusers_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "diffusers"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "aict_hf.harmonize.diffusers_aict")
    module = aict_hf.harmonize.diffusers_aict
    monkeypatch.setattr(aict_hf.harmonize, "diffusers_aict", module)  # put back where the import replaces it
    with pytest.raises(ImportError, match=r'pip install "aict_hf\[diffusers\]"'):
        importlib.import_module("aict_hf.harmonize.diffusers_aict")


def test_the_step_alone_does_what_the_pipeline_does(pipe, inpainted):
    photo, mask, generated = inpainted
    step = AICTHarmonizeStep().init_pipeline()
    step.update_components(harmonization_model=pipe.model, harmonization_image_processor=pipe.image_processor)
    arguments = {"images": [generated], "mask_image": mask, "image": photo}
    [result] = step(**arguments, output="images")
    assert np.array_equal(result, pipe(generated, mask, original_image=photo).images[0])
    weaker = step(**arguments, harmonization_strength=0.5, output_type="np", output="images")
    options = {"original_image": photo, "strength": 0.5, "output_type": "np"}
    assert np.array_equal(weaker, pipe(generated, mask, **options).images)
    with pytest.raises(ValueError, match="mask_image"):
        step(images=[generated], image=photo)


def test_the_step_loads_the_bundled_checkpoint(inpainted):
    photo, mask, generated = inpainted
    step = AICTHarmonizeStep().init_pipeline()
    step.load_components()
    [result] = step(images=[generated], mask_image=mask, image=photo, output="images")
    assert (levels(result) == levels(photo))[levels(mask) == 0].all()


def test_a_saved_step_loads_again(pipe, inpainted, tmp_path):
    photo, mask, generated = inpainted
    step = AICTHarmonizeStep().init_pipeline()
    step.update_components(harmonization_model=pipe.model, harmonization_image_processor=pipe.image_processor)
    step.save_pretrained(str(tmp_path), overwrite_modular_index=True)
    again = AICTHarmonizeStep().init_pipeline(tmp_path)
    again.load_components()
    arguments = {"images": [generated], "mask_image": mask, "image": photo, "output": "images"}
    assert np.array_equal(again(**arguments)[0], step(**arguments)[0])


class Invert(ModularPipelineBlocks):
    """Stands for an inpainting pipeline."""

    @property
    def inputs(self):
        return [InputParam("image", required=True)]

    @property
    def intermediate_outputs(self):
        return [OutputParam("images")]

    def __call__(self, components, state):
        block_state = self.get_block_state(state)
        block_state.images = [block_state.image.point(lambda level: 255 - level)]
        self.set_block_state(state, block_state)
        return components, state


def test_the_step_follows_other_blocks(pipe):
    photo, mask = photo_and_mask()
    blocks = SequentialPipelineBlocks.from_blocks_dict({"decode": Invert(), "harmonize": AICTHarmonizeStep()})
    whole = blocks.init_pipeline()
    whole.update_components(harmonization_model=pipe.model, harmonization_image_processor=pipe.image_processor)
    [result] = whole(image=photo, mask_image=mask, output="images")
    inverted = photo.point(lambda level: 255 - level)
    assert np.array_equal(result, pipe(inverted, mask, original_image=photo).images[0])


def test_the_step_ends_a_stable_diffusion_xl_inpainting_pipeline(pipe):
    photo, mask = photo_and_mask()
    components = {
        "unet": tiny_unet(
            addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 16
        ),
        "vae": tiny_vae(),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
    }
    inputs = {
        "prompt_embeds": torch.zeros(1, 7, 16),
        "negative_prompt_embeds": torch.zeros(1, 7, 16),
        "pooled_prompt_embeds": torch.zeros(1, 16),
        "negative_pooled_prompt_embeds": torch.zeros(1, 16),
        "image": photo,
        "mask_image": mask,
        "height": 64,
        "width": 64,
        "strength": 1.0,
        "num_inference_steps": 2,
    }
    blocks = StableDiffusionXLAutoBlocks()
    del blocks.sub_blocks["text_encoder"]
    results = []
    for with_step in (False, True):
        if with_step:
            blocks.sub_blocks.insert("harmonize", AICTHarmonizeStep(), len(blocks.sub_blocks))
            components |= {
                "harmonization_model": pipe.model,
                "harmonization_image_processor": pipe.image_processor,
            }
        whole = blocks.init_pipeline()
        whole.update_components(**components)
        results += whole(**inputs, generator=torch.Generator().manual_seed(0), output="images")
    generated, harmonized = results
    assert generated.size == (64, 64)
    assert np.array_equal(harmonized, pipe(generated, mask, original_image=photo).images[0])


@pytest.mark.parametrize("crop", [32, pytest.param(0, marks=pytest.mark.slow)])
def test_the_inpainting_example_keeps_the_photo_outside_the_mask(forks, tmp_path, crop):
    tiny_stable_diffusion(StableDiffusionInpaintPipeline, in_channels=9).save_pretrained(tmp_path / "model")
    photo, mask = photo_and_mask()
    photo.save(tmp_path / "photo.png")
    mask.save(tmp_path / "mask.png")
    options = ["--model", "model", "--steps", 2, "--padding_mask_crop", crop]
    forks.lines([EXAMPLES / "diffusers_inpaint.py", "photo.png", "mask.png", "a cat", *options], tmp_path)
    original, generated, harmonized = (
        levels(Image.open(tmp_path / "out" / "inpaint" / f"{name}.png"))
        for name in ("original", "generated", "harmonized")
    )
    outside = levels(mask) == 0
    assert np.array_equal(original, levels(photo))
    assert np.array_equal(original[outside], harmonized[outside])
    assert generated.shape == (original.shape if crop else (64, 64, 3))
    if crop:
        assert (harmonized != generated)[~outside].any()


@pytest.mark.parametrize("given_mask", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_compositing_example_keeps_the_photo_around_the_object(forks, tmp_path, given_mask):
    tiny_stable_diffusion(StableDiffusionPipeline, in_channels=4).save_pretrained(tmp_path / "model")
    photo, mask = photo_and_mask()
    photo.save(tmp_path / "photo.png")
    mask.resize((64, 64)).save(tmp_path / "mask.png")
    options = ["--mask", "mask.png"] if given_mask else ["--threshold", 0.2]
    arguments = ["photo.png", "a cat", "--model", "model", "--steps", 2, "--size", 0.5, *options]
    forks.lines([EXAMPLES / "generate_composite_harmonize.py", *arguments], tmp_path)
    mask, composite, harmonized = (
        levels(Image.open(tmp_path / "out" / "composite" / f"{name}.png"))
        for name in ("mask", "composite", "harmonized")
    )
    assert (mask[20:60, 30:70] > 0).any()  # where the picture was laid
    assert (mask[25:55, 35:65] == 0).any()  # of which a part was cut out
    assert np.array_equal(harmonized[mask == 0], levels(photo)[mask == 0])
    assert (harmonized != composite)[mask > 0].any()
