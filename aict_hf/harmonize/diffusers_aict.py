"""AICT in diffusers: a pipeline and a modular block that harmonize what an inpainting pipeline generated."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..model.image_arrays import photo_arrays, rgb_array
from ..model.image_processing_aict import AICTImageProcessor, ImageLike
from ..model.image_sources import open_image
from ..model.levels import to_eight_bits, to_unit
from ..model.modeling_aict import AICTModel
from ..model.opened_photo import OpenedPhoto, is_several
from ..pretrained import DEFAULT_CHECKPOINT
from .harmonizer import Harmonizer

try:
    # Not from the package's top level, where type checkers find placeholders.
    from diffusers.modular_pipelines.modular_pipeline import ModularPipelineBlocks, PipelineState
    from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, InputParam, OutputParam
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
except ImportError as error:
    raise ImportError('this module needs diffusers >= 0.37; pip install "aict_hf[diffusers]"') from error

OUTPUT_TYPES = ("pil", "np", "pt")


class AICTHarmonizePipeline(DiffusionPipeline):
    """Fits the colours of a generated foreground to the photo it was generated into.

    `AICTHarmonizePipeline(*load_checkpoint())` (`aict_hf.pretrained`) uses a bundled or any other AICT checkpoint.
    `save_pretrained` writes a folder that `AICTHarmonizePipeline.from_pretrained` loads on machines with this package.
    diffusers does not load such a folder from the Hub or without the package. For the Hub, use `aict export`:
    transformers loads the exported folder anywhere, and so does `load_checkpoint`.

    Args:
        model: predicts the LUTs.
        image_processor: makes the model's inputs.

    Source: AICT (NeurIPS 2024).
    """

    model_cpu_offload_seq = "model"  # type: ignore[assignment]  # diffusers annotates it by its default

    def __init__(self, model: AICTModel, image_processor: AICTImageProcessor):
        super().__init__()
        self.register_modules(model=model, image_processor=image_processor)

    @torch.no_grad()
    def __call__(
        self,
        image: ImageLike | Sequence[ImageLike],
        mask_image: ImageLike | Sequence[ImageLike],
        *,
        original_image: ImageLike | Sequence[ImageLike] | None = None,
        strength: float = 1.0,
        batch_size: int = 1,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Harmonize generated images, one or several, of any mixture of sizes.

        Args:
            image: the output of an inpainting pipeline, or a composite. PIL images, paths, arrays (H, W, 3) or
                (B, H, W, 3), tensors (3, H, W) or (B, 3, H, W), or lists of these; uint8 or float in [0, 1].
            mask_image: the generated foreground is white; values between black and white are soft. Its size is that of
                `original_image` if given, else of `image`. One per image or one for all. PIL images, paths, arrays
                (H, W), (B, H, W) or (..., H, W, 1), tensors (H, W), (B, H, W) or (..., 1, H, W).
            original_image: the photo that was inpainted, one per image or one for all. The result has exactly its
                pixels where the mask is 0. Where the mask is soft, the generated image is blended in before it is
                harmonized. A generated image of another size is resized to the original's, bicubically and without
                keeping its aspect ratio. If `original_image` is left out, the background is that of `image`. Leave it
                out if the pipeline has laid its result onto the photo already (diffusers' `padding_mask_crop`):
                otherwise soft edges are blended twice.
            strength: share of the colour change to apply, 0 (only the blending) to 1. This is not the inpainting
                pipeline's strength.
            batch_size: number of images in one run of the network.
            output_type: "pil" for a list of RGB images, "np" for a float32 array (B, H, W, 3) in [0, 1], "pt" for a
                float32 tensor (B, 3, H, W) on the device of `image`. Lists if the sizes differ.
            return_dict: False for a plain tuple.
        Returns:
            `ImagePipelineOutput` with `images`, or `(images,)`.
        Raises:
            ValueError: if an image cannot be read, numbers or sizes do not fit, or an option is out of range.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}; expected a share from 0 to 1")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
        if isinstance(mask_image, np.ndarray | Tensor) and mask_image.ndim == 3:  # diffusers reads it as a batch
            single = isinstance(mask_image, np.ndarray) and mask_image.shape[2] == 1
            mask_image = mask_image[None] if single else mask_image[:, None]
        generated, masks, originals = (_single_images(given) for given in (image, mask_image, original_image))
        if not generated:
            raise ValueError("image is an empty list; pass at least one image")
        for name, given in (("mask_image", masks), ("original_image", originals)):
            if len(given) == 1:
                given *= len(generated)
            if len(given) != len(generated):
                raise ValueError(
                    f"image holds {len(generated)} images, {name} {len(given)}; pass one for each or one for all"
                )
        given_photos = list(zip(generated, masks, originals, strict=True))
        harmonizer = Harmonizer(self.model, self.image_processor)
        results: list[np.ndarray] = []  # (3, H, W)
        with self.progress_bar(total=len(given_photos)) as progress_bar:
            for start in range(0, len(given_photos), batch_size):
                photos = []
                for index, given_photo in enumerate(given_photos[start : start + batch_size], start):
                    try:
                        photos.append(_composite(*given_photo, keep_uint8=output_type == "pil"))
                    except ValueError as error:
                        raise ValueError(f"image {index}: {error}") from error
                predicted = harmonizer.predict_opened(photos, device=self._execution_device)
                results += [luts.apply(strength=strength) for luts in predicted]
                progress_bar.update(len(photos))
        self.maybe_free_model_hooks()
        images: Any
        if output_type == "pt":
            devices = [one.device if isinstance(one, Tensor) else "cpu" for one in generated]
            images = [torch.from_numpy(one).to(device) for one, device in zip(results, devices, strict=True)]
        else:
            images = [np.ascontiguousarray(result.transpose(1, 2, 0)) for result in results]
        if output_type == "pil":
            images = [Image.fromarray(to_eight_bits(image)) for image in images]
        elif len({result.shape for result in results}) == 1:
            images = torch.stack(images) if output_type == "pt" else np.stack(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)


class AICTHarmonizeStep(ModularPipelineBlocks):
    """`AICTHarmonizePipeline` as a block of a modular pipeline, after an inpainting pipeline's decode step.

    `blocks.sub_blocks.insert("harmonize", AICTHarmonizeStep(), len(blocks.sub_blocks))` puts the block last. Its
    components are called `harmonization_model` and `harmonization_image_processor`, and its strength is called
    `harmonization_strength`, because the inpainting pipeline has an `image_processor` and a `strength`.
    `load_components` loads the bundled checkpoint. Do not use the block after `padding_mask_crop`, which lays the
    result onto the photo itself: soft edges of the mask would be blended twice.

    `AICTHarmonizeStep().init_pipeline(folder)`, then `load_components()`, loads what `save_pretrained` wrote.
    `ModularPipeline.from_pretrained(folder)` cannot: it finds diffusers' own blocks only.

    Source: AICT (NeurIPS 2024).
    """

    @property
    def description(self) -> str:
        return "Fits the colours inside the mask to the photo. Pixels outside the mask are unchanged."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [
            ComponentSpec("harmonization_model", AICTModel, pretrained_model_name_or_path=DEFAULT_CHECKPOINT),
            ComponentSpec(
                "harmonization_image_processor", AICTImageProcessor, pretrained_model_name_or_path=DEFAULT_CHECKPOINT
            ),
        ]

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("images", required=True, description="The generated images, from the decode step."),
            InputParam("mask_image", required=True, description="The mask that was inpainted, of the photo's size."),
            InputParam("image", required=True, description="The photo that was inpainted."),
            InputParam("harmonization_strength", default=1.0, description="Share of the change to apply, 0 to 1."),
            InputParam("output_type", default="pil", description="Output format: 'pil', 'np', 'pt'."),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("images", type_hint=list[Image.Image], description="The harmonized images.")]

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        """Replace `images` in the state by the output of `AICTHarmonizePipeline`."""
        block_state: Any = self.get_block_state(state)
        pipe = AICTHarmonizePipeline(components.harmonization_model, components.harmonization_image_processor)
        pipe.set_progress_bar_config(disable=True)
        block_state.images = pipe(
            block_state.images,
            block_state.mask_image,
            original_image=block_state.image,
            strength=block_state.harmonization_strength,
            output_type=block_state.output_type,
            return_dict=False,
        )[0]
        self.set_block_state(state, block_state)
        return components, state


def _single_images(given: Any) -> list[Any]:
    """The images of one image, a list or a batch; also of a list of batches, which diffusers' pipelines take."""
    single: list[Any] = []
    for item in given if is_several(given) else [given]:
        batch = isinstance(item, np.ndarray | Tensor) and item.ndim == 4
        single += list(item) if batch else [item]
    return single


def _composite(image: Any, mask_image: Any, original_image: Any, *, keep_uint8: bool) -> OpenedPhoto:
    """The generated image laid onto the original: RGB (3, H, W), float32 or uint8, with its mask (1, H, W)."""
    if mask_image is None:
        raise ValueError("mask_image is None; pass the mask that was inpainted")
    photo, foreground = open_image(image), open_image(mask_image)
    generated = rgb_array(photo)
    canvas = generated
    if original_image is not None:
        photo = open_image(original_image)
        canvas = rgb_array(photo, name="original_image")
    height, width = rgb_array(foreground, name="mask").shape[1:]
    if (height, width) != canvas.shape[1:]:
        raise ValueError(
            f"mask_image is {width} x {height}, {'image' if original_image is None else 'original_image'} is "
            f"{canvas.shape[2]} x {canvas.shape[1]}; resize the mask"
            + (", or pass the photo that was inpainted as original_image" if original_image is None else "")
        )
    mask = photo_arrays(photo, foreground)[1]
    if not (keep_uint8 and canvas.dtype == np.uint8):
        canvas = to_unit(canvas)
    if original_image is None:
        return OpenedPhoto(canvas, canvas, mask, "channels_first")
    if generated.shape != canvas.shape:
        whole = torch.from_numpy(to_unit(generated))[None]
        generated = F.interpolate(whole, canvas.shape[1:], mode="bicubic", antialias=True)[0].clamp(0, 1).numpy()
    inside = mask[0] > 0
    opacity = to_unit(mask[:, inside])
    blended = opacity * to_unit(generated[:, inside]) + (1 - opacity) * to_unit(canvas[:, inside])
    composite = canvas.copy()
    composite[:, inside] = to_eight_bits(blended) if canvas.dtype == np.uint8 else blended
    return OpenedPhoto(composite, composite, mask, "channels_first")


__all__ = ["AICTHarmonizePipeline", "AICTHarmonizeStep"]
