"""`Harmonizer`: a network and its image processor, to harmonize images in memory."""

import os
from collections.abc import Sequence
from typing import Any

import torch

from ..files.weights import weights_digest
from ..model.image_processing_aict import AICTImageProcessor, ImageLike
from ..model.modeling_aict import AICTModel
from ..model.opened_photo import OpenedPhoto, is_several, open_photos, warn_of_surprises
from ..pretrained import load_checkpoint
from .photo_luts import LUTMaps, PhotoLUTs


class Harmonizer:
    """Fits the colours of pasted foregrounds to their backgrounds.

    Args:
        model: predicts the LUT maps.
        processor: makes the model's inputs from photos.

    Examples:
        >>> from PIL import Image
        >>> from aict_hf import Harmonizer
        >>> harmonizer = Harmonizer.from_pretrained()
        >>> composite, mask = Image.new("RGB", (64, 48), "gray"), Image.new("L", (64, 48))
        >>> mask.paste(255, (20, 10, 40, 30))
        >>> harmonizer(composite, mask, strength=0.8).size
        (64, 48)

    Source: AICT (NeurIPS 2024).
    """

    def __init__(self, model: AICTModel, processor: AICTImageProcessor) -> None:
        self.model = model
        self.processor = processor

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the low-resolution copies that the network sees, in pixels."""
        return self.processor.size["height"], self.processor.size["width"]

    def digest(self) -> str:
        """A hash of the network's weights: equal wherever the same network runs."""
        tensors = self.model.state_dict().items()
        return weights_digest((name, tensor.float().cpu().numpy()) for name, tensor in tensors)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike | None = None, *, device: torch.device | str = "cpu"
    ) -> "Harmonizer":
        """Load a checkpoint.

        Args:
            name: a bundled checkpoint's name, a folder or a Hub repository. The default checkpoint if left out.
            device: where the model runs.
        Raises:
            InputError: if there is no such checkpoint, or its weights do not fit its config.
        """
        return cls(*load_checkpoint(name, device=device))

    def __call__(
        self,
        composites: ImageLike | Sequence[ImageLike],
        masks: ImageLike | Sequence[ImageLike | None] | None = None,
        *,
        strength: float = 1.0,
        input_data_format: str | None = None,
    ) -> Any:
        """Harmonize one composite, or several with one run of the network.

        Args:
            composites, masks, input_data_format: as in `AICTImageProcessor.preprocess`.
            strength: share of the change to apply, 0 to 1.
        Returns:
            the harmonized image, of the type, size and mode of the composite (PIL for a path). A list for several.
        Raises:
            ValueError, FileNotFoundError: for the reasons of `AICTImageProcessor.preprocess`.
        """
        luts = self.predict(composites, masks, input_data_format=input_data_format)
        results = [one.apply(strength=strength) for one in luts]
        return results if is_several(composites) else results[0]

    def predict(
        self,
        composites: ImageLike | Sequence[ImageLike],
        masks: ImageLike | Sequence[ImageLike | None] | None = None,
        *,
        input_data_format: str | None = None,
        device: torch.device | str | None = None,
    ) -> list[PhotoLUTs]:
        """Predict the LUTs of one composite or several, with one run of the network.

        Args:
            composites, masks, input_data_format: as in `AICTImageProcessor.preprocess`.
            device: where the network's inputs go, if that is not the model's own device.
        Returns:
            one object per composite, also for a single composite. Each holds its decoded photo.
        Raises:
            ValueError, FileNotFoundError: for the reasons of `AICTImageProcessor.preprocess`.
        """
        photos = list(open_photos(composites, masks, input_data_format))
        warn_of_surprises(photos)
        return self.predict_opened(photos, device=device)

    @torch.no_grad()
    def predict_opened(
        self, photos: Sequence[OpenedPhoto], *, device: torch.device | str | None = None
    ) -> list[PhotoLUTs]:
        """Predict the LUTs of photos that are decoded already, with one run of the network.

        Args:
            photos: what `aict_hf.model.opened_photo.open_photo` returned.
            device: as for `predict`.
        """
        if not photos:
            return []
        inputs = self.processor.network_inputs(photos).to(self.model.device if device is None else device)
        outputs = self.model(**inputs, return_harmonized=False)
        kind = self.model.config.transform_kind
        if kind == "aict":
            maps = zip(outputs.sampling_intervals, outputs.knots, outputs.color_lut, strict=True)
            return [PhotoLUTs(photo, LUTMaps(*one)) for photo, one in zip(photos, maps, strict=True)]
        return [PhotoLUTs(photo, tuple(own), kind) for photo, *own in zip(photos, *outputs.maps, strict=True)]


__all__ = ["Harmonizer"]
