"""transformers pipeline of AICT: a composite and its mask in, the harmonized photo out."""

from dataclasses import dataclass
from typing import Any

from transformers.pipelines.base import Pipeline

from .image_processing_aict import ImageLike, is_several, open_photo, pair_images, warn_of_surprises


class ImageHarmonizationPipeline(Pipeline):
    """Fits the colours of a pasted foreground to its background (task `image-harmonization`).

    Examples:
        >>> from transformers import pipeline
        >>> from aict_hf import DEFAULT_CHECKPOINT, AICTImageProcessor, AICTModel
        >>> model = AICTModel.from_pretrained(DEFAULT_CHECKPOINT)
        >>> processor = AICTImageProcessor.from_pretrained(DEFAULT_CHECKPOINT)
        >>> pipe = pipeline("image-harmonization", model=model, image_processor=processor)
        >>> pipe("composite.jpg", "mask.png", strength=0.8).size
        (56, 40)

    Source: AICT (NeurIPS 2024).
    """

    _load_processor = False
    _load_image_processor = True
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __call__(self, inputs: Any, masks: Any = None, **kwargs: Any) -> Any:
        """Harmonize one or several composites.

        Args:
            inputs: a composite or a list of composites: anything `AICTImageProcessor` takes, so also web addresses and
                base64. Or a dict `{"image": ..., "mask": ...}`, a list of dicts or a generator of dicts. Sizes may
                differ.
            masks: one foreground mask per composite; not with dicts. A composite with an alpha channel needs no mask
                (nor a "mask" in its dict): its alpha channel is then the mask.
            strength: share of the change to apply, 0 to 1 (default 1).
            timeout: seconds that the server of a web address may stay silent (default 60).
            batch_size: how many composites go through the network at once (default 1).
        Returns:
            the harmonized image, of the composite's type, size and mode (PIL for a path). A list for a list, an
            iterator for a generator.
        Raises:
            ValueError: for the reasons of `AICTImageProcessor.preprocess`, or if an address cannot be fetched.
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

    def _sanitize_parameters(
        self, strength: float | None = None, timeout: float | None = None, **kwargs: Any
    ) -> tuple[dict, dict, dict]:
        if kwargs:
            taken = "strength, timeout, batch_size"
            raise ValueError(f"unknown argument {', '.join(sorted(kwargs))}; this pipeline takes {taken}")
        preprocess = {} if timeout is None else {"timeout": timeout}
        return preprocess, {} if strength is None else {"strength": strength}, {}

    def preprocess(self, input_: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        if not isinstance(input_, dict) or "image" not in input_ or set(input_) - {"image", "mask"}:
            raise ValueError(f'a pipeline input is {input_!r}; expected {{"image": composite, "mask": mask}}')
        photo = open_photo(input_["image"], input_.get("mask"), timeout=timeout)
        warn_of_surprises([photo])
        return {**self.image_processor.network_inputs([photo]), "photo": photo}

    def _forward(self, input_tensors: dict[str, Any], strength: float = 1.0) -> dict[str, Any]:
        # transformers leaves an `OpenedPhoto` alone: it would stack or move a bare tensor or array.
        photos = input_tensors.pop("photo")
        outputs = self.model(**input_tensors, return_harmonized=False)
        maps = zip(outputs.knots, outputs.color_lut, strict=True)
        if not isinstance(photos, list):
            return {"harmonized": _Result(photos.recolored(*next(maps), strength=strength))}
        results = [photo.recolored(*luts, strength=strength) for photo, luts in zip(photos, maps, strict=True)]
        return {"harmonized": [_Result(result) for result in results]}

    def postprocess(self, model_outputs: dict[str, Any]) -> Any:
        return model_outputs["harmonized"].image


@dataclass(frozen=True)
class _Result:
    """A full-resolution result on its way to `postprocess`: transformers would split or move a bare one."""

    image: Any


__all__ = ["ImageHarmonizationPipeline"]
