"""transformers pipeline of AICT: a composite and its mask in, the harmonized photo out."""

from dataclasses import dataclass
from typing import Any

from transformers.pipelines.base import Pipeline

from .image_processing_aict import ImageLike, is_several, open_image, pair_images


class ImageHarmonizationPipeline(Pipeline):
    """Fits the colours of a pasted foreground to its background (task `image-harmonization`).

    Source: AICT (NeurIPS 2024).
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __call__(self, inputs: Any, masks: Any = None, **kwargs) -> Any:
        """Harmonize one or several composites.

        Args:
            inputs: a composite or a list of composites (anything `AICTImageProcessor` takes), or dicts
                `{"image": ..., "mask": ...}`, one, a list or a generator, of any mixture of sizes.
            masks: the foreground masks, one per composite; not with dicts. May be left out, as may "mask", where the
                composite's alpha channel is the mask.
            strength: share of the change to apply, 0 to 1 (default 1).
            batch_size: how many composites go through the network at once (default 1).
        Returns:
            the harmonized image, of the type, size and mode the composite came in (PIL for a path); a list for a list,
            an iterator for a generator.
        Raises:
            ValueError: for anything `AICTImageProcessor` refuses.
        """
        if masks is not None:
            if isinstance(inputs, dict) or (is_several(inputs) and any(isinstance(item, dict) for item in inputs)):
                raise ValueError('masks were given both inside the dicts and beside them; pass {"image", "mask"} only')
            pairs = [{"image": image, "mask": mask} for image, mask in pair_images(inputs, masks)]
            inputs = pairs if is_several(inputs) else pairs[0]
        elif is_several(inputs):
            inputs = [item if isinstance(item, dict) else {"image": item} for item in inputs]
        elif isinstance(inputs, ImageLike):
            inputs = {"image": inputs}
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, strength: float | None = None, **kwargs) -> tuple[dict, dict, dict]:
        if kwargs:
            raise ValueError(f"unknown argument {', '.join(sorted(kwargs))}; this pipeline takes strength, batch_size")
        return {}, {} if strength is None else {"strength": strength}, {}

    def preprocess(self, input_: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(input_, dict) or "image" not in input_ or set(input_) - {"image", "mask"}:
            raise ValueError(f'a pipeline input is {input_!r}; expected {{"image": composite, "mask": mask}}')
        image, mask = open_image(input_["image"]), open_image(input_.get("mask"))
        inputs = self.image_processor([image], [mask], return_tensors="pt")
        return {**inputs, "photo": _Photo(image, mask)}

    def _forward(self, input_tensors: dict[str, Any], strength: float = 1.0) -> dict[str, Any]:
        photos = input_tensors.pop("photo")
        batch = photos if isinstance(photos, list) else [photos]
        harmonized = self.image_processor.post_process_harmonization(
            self.model(**input_tensors, return_harmonized=False),
            [photo.image for photo in batch],
            [photo.mask for photo in batch],
            strength,
        )
        results = [_Photo(image) for image in harmonized]
        return {"photo": results if isinstance(photos, list) else results[0]}

    def postprocess(self, model_outputs: dict[str, Any]) -> Any:
        return model_outputs["photo"].image


@dataclass
class _Photo:
    """A full-resolution photo on its way through the stages, where transformers would stack or move a bare one."""

    image: Any
    mask: Any = None


__all__ = ["ImageHarmonizationPipeline"]
