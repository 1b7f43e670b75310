"""`ONNXHarmonizer`: what `Harmonizer` does for decoded photos, in onnxruntime and numba, without importing torch."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np

from ..model.opened_photo import OpenedPhoto
from .onnx_network import ONNXNetwork
from .photo_luts import LUTMaps, PhotoLUTs


class ONNXHarmonizer:
    """Predicts the LUTs of decoded photos on the CPU (`pip install "aict_hf[fast]"`).

    Args:
        network: the network in onnxruntime.

    Source: AICT (NeurIPS 2024).
    """

    def __init__(self, network: ONNXNetwork) -> None:
        self.network = network

    @classmethod
    def from_folder(cls, folder: str | os.PathLike) -> "ONNXHarmonizer":
        """Open a checkpoint's folder. numba, which takes longest to import, is imported in a thread meanwhile.

        Raises:
            InputError: for the reasons of `ONNXNetwork.from_folder`.
        """
        preparation = ThreadPoolExecutor(1)
        preparation.submit(import_module, "..model.lut_numba", __package__)
        network = ONNXNetwork.from_folder(folder)
        preparation.submit(_load_kernel, network)
        preparation.shutdown(wait=False)
        return cls(network)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the low-resolution copies that the network sees, in pixels."""
        return self.network.size

    def digest(self) -> str:
        """A hash of the network's weights: the one of a `Harmonizer` with the same network."""
        return self.network.weights_digest

    def predict_opened(self, photos: Sequence[OpenedPhoto]) -> list[PhotoLUTs]:
        """Predict the LUTs of decoded photos, with one run of the network.

        Args:
            photos: what `aict_hf.model.opened_photo.open_photo` returned.
        """
        if not photos:
            return []
        pixel_values, masks = zip(*(photo.low_resolution(self.input_size) for photo in photos), strict=True)
        maps = self.network(np.stack(pixel_values), np.stack(masks))
        return [PhotoLUTs(photo, LUTMaps(*one)) for photo, one in zip(photos, zip(*maps, strict=True), strict=True)]


def _load_kernel(network: ONNXNetwork) -> None:
    from ..model.lut_numba import load_kernel

    load_kernel(*network.node_counts)


__all__ = ["ONNXHarmonizer"]
