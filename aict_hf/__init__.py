"""High-resolution image harmonization with AICT (Adaptive-Interval Color Transformation, NeurIPS 2024)."""

from importlib.metadata import version

from transformers import AutoConfig, AutoModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # at the top it needs torchvision in 5.17
from transformers.pipelines import PIPELINE_REGISTRY

from .harmonize.harmonizer import Harmonizer
from .model.configuration_aict import AICTConfig
from .model.image_processing_aict import AICTImageProcessor
from .model.lut import apply_luts
from .model.modeling_aict import AICTModel, AICTOutput, foreground_mse, harmonization_loss
from .model.pipeline_aict import ImageHarmonizationPipeline
from .pretrained import DEFAULT_CHECKPOINT

__version__ = version("aict_hf")

# transformers' own way to make the Auto classes and `pipeline("image-harmonization", ...)` know a model outside it.
AutoConfig.register(AICTConfig.model_type, AICTConfig, exist_ok=True)
AutoModel.register(AICTConfig, AICTModel, exist_ok=True)
AutoImageProcessor.register(AICTConfig, slow_image_processor_class=AICTImageProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    "image-harmonization", pipeline_class=ImageHarmonizationPipeline, pt_model=AutoModel, type="image"
)
# What is saved brings its code along, for machines without this package.
AICTConfig.register_for_auto_class()
AICTModel.register_for_auto_class("AutoModel")
AICTImageProcessor.register_for_auto_class()

__all__ = [
    "DEFAULT_CHECKPOINT",
    "AICTConfig",
    "AICTImageProcessor",
    "AICTModel",
    "AICTOutput",
    "Harmonizer",
    "ImageHarmonizationPipeline",
    "apply_luts",
    "foreground_mse",
    "harmonization_loss",
]
