"""High-resolution image harmonization with AICT (Adaptive-Interval Color Transformation, NeurIPS 2024).

Public names are loaded on first use: importing the package imports neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._registration import install as _install_registration

if TYPE_CHECKING:
    from .harmonize.harmonizer import Harmonizer
    from .harmonize.video import VideoHarmonizer
    from .model.configuration_aict import AICTConfig
    from .model.image_processing_aict import AICTImageProcessor
    from .model.losses_aict import foreground_mse, harmonization_loss
    from .model.lut import apply_luts
    from .model.modeling_aict import AICTModel, AICTOutput
    from .model.pipeline_aict import ImageHarmonizationPipeline
    from .pretrained import DEFAULT_CHECKPOINT

    __version__: str
else:
    _MODULES = {
        "AICTConfig": "model.configuration_aict",
        "AICTImageProcessor": "model.image_processing_aict",
        "AICTModel": "model.modeling_aict",
        "AICTOutput": "model.modeling_aict",
        "DEFAULT_CHECKPOINT": "pretrained",
        "Harmonizer": "harmonize.harmonizer",
        "ImageHarmonizationPipeline": "model.pipeline_aict",
        "VideoHarmonizer": "harmonize.video",
        "apply_luts": "model.lut",
        "foreground_mse": "model.losses_aict",
        "harmonization_loss": "model.losses_aict",
    }

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("aict_hf")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        globals()[name] = value  # the next look-up finds it there
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "DEFAULT_CHECKPOINT",
    "AICTConfig",
    "AICTImageProcessor",
    "AICTModel",
    "AICTOutput",
    "Harmonizer",
    "ImageHarmonizationPipeline",
    "VideoHarmonizer",
    "apply_luts",
    "foreground_mse",
    "harmonization_loss",
]

_install_registration()
