"""A decoded photo with the LUT maps that the network predicted for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from ..errors import InputError
from ..model.opened_photo import LUTMap, OpenedPhoto


class LUTMaps(NamedTuple):
    """The LUT maps of one photo: the network's output, float32, without the batch dimension.

    They are tensors if torch ran the network, and NumPy arrays if onnxruntime did.

    Attributes:
        sampling_intervals: shape (3, K, h, w).
        knots: shape (3, K + 1, h, w).
        color_lut: shape (3, K, h, w).
    """

    sampling_intervals: LUTMap
    knots: LUTMap
    color_lut: LUTMap


@dataclass(frozen=True)
class PhotoLUTs:
    """A decoded photo with its LUT maps: every strength costs only the LUTs.

    Attributes:
        photo: the decoded photo and its mask.
        maps: the LUT maps that the network predicted for the photo. From a network with another colour transformation
            they are its `AICTOutput.transform_maps` without the batch dimension.
        kind: `AICTConfig.transform_kind` of the network.
    """

    photo: OpenedPhoto
    maps: LUTMaps | tuple[LUTMap, ...]
    kind: str = "aict"

    @property
    def lut_maps(self) -> LUTMaps:
        """The LUT maps of AICT itself.

        Raises:
            InputError: if the network has another colour transformation.
        """
        if not isinstance(self.maps, LUTMaps):
            raise InputError(f"the checkpoint's colour transformation is {self.kind}; this needs the LUTs of aict")
        return self.maps

    @property
    def knots(self) -> LUTMap:
        """Nodes of the first LUT, shape (3, K + 1, h, w), float32."""
        return self.lut_maps.knots

    @property
    def color_lut(self) -> LUTMap:
        """Nodes of the colour LUT, shape (3, K, h, w), float32."""
        return self.lut_maps.color_lut

    @property
    def transform_maps(self) -> tuple[LUTMap, ...]:
        """The maps that recolour a pixel, as `recolor` takes them."""
        return self.maps[1:] if isinstance(self.maps, LUTMaps) else self.maps

    def with_maps(self, values: Iterable[LUTMap]) -> "PhotoLUTs":
        """The same photo with other values in place of `maps`."""
        return replace(self, maps=LUTMaps(*values) if isinstance(self.maps, LUTMaps) else tuple(values))

    def apply(self, *, strength: float = 1.0, overwrite: bool = False) -> Any:
        """Recolour the photo's foreground.

        Args:
            strength: share of the change to apply, 0 (returns the photo bit for bit) to 1.
            overwrite: as for `OpenedPhoto.recolored`: less memory, and this object is of no use afterwards.
        Returns:
            the harmonized image, of the type, size and mode of the composite (PIL for a path).
        Raises:
            ValueError: if the strength is out of range.
        """
        return self.photo.recolored(*self.transform_maps, kind=self.kind, strength=strength, overwrite=overwrite)

    def disharmony(self) -> float:
        """Measure how far the foreground's colours are from the harmonized ones.

        Returns:
            mean CIEDE2000, as `AICTImageProcessor.disharmony` defines it: 0 fits, 5 is plain to see.
        """
        return self.photo.disharmony(*self.transform_maps, kind=self.kind)


class LUTPredictor(Protocol):
    """What predicts LUTs: `Harmonizer`, or `ONNXHarmonizer`, which needs no torch."""

    def predict_opened(self, photos: Sequence[OpenedPhoto]) -> list[PhotoLUTs]:
        """Predict the LUTs of decoded photos, with one run of the network."""


class IdentifiedPredictor(LUTPredictor, Protocol):
    """A predictor that says which network it is, so that a later run knows what it has finished.

    Attributes:
        input_size: height and width of the low-resolution copies that the network sees, in pixels.
    """

    @property
    def input_size(self) -> tuple[int, int]: ...

    def digest(self) -> str:
        """A hash of the network's weights: equal wherever the same network runs."""


__all__ = ["IdentifiedPredictor", "LUTMaps", "LUTPredictor", "PhotoLUTs"]
