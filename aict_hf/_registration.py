"""Make transformers' Auto classes and `pipeline(...)` know AICT, without importing transformers.

transformers registers models outside of it through its Auto modules, which take seconds to import. Post-import hooks
therefore wait until a program imports one of them. They also wait for the package's own modules, because a class must
be registered before it is saved: `save_pretrained` then writes its code along.

A hook only ever imports one module after another has been executed completely. transformers imports
`configuration_auto` in the middle of `modeling_utils`, so nothing that `configuration_aict` imports may need that file.
"""

from functools import partial
from importlib import import_module
from types import ModuleType

import wrapt


def install() -> None:
    """Register the classes as soon as transformers' Auto modules are imported; at once if they already are."""
    for ours, register in _REGISTRATIONS.items():
        wrapt.register_post_import_hook(register, ours)
    for theirs, ours in _AUTO_MODULES.items():
        wrapt.register_post_import_hook(partial(_import, ours), theirs)


def _import(ours: str, _: ModuleType) -> None:
    # If ours is what imports theirs, importing it again does nothing: it registers itself when it is complete.
    import_module(ours)


def _register_config(_: ModuleType) -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from .model.configuration_aict import AICTConfig

    AutoConfig.register(AICTConfig.model_type, AICTConfig, exist_ok=True)
    AICTConfig.register_for_auto_class()


def _register_model(_: ModuleType) -> None:
    from transformers.models.auto.modeling_auto import AutoModel

    from .model.modeling_aict import AICTConfig, AICTModel

    AutoModel.register(AICTConfig, AICTModel, exist_ok=True)
    AICTModel.register_for_auto_class("AutoModel")


def _register_image_processor(_: ModuleType) -> None:
    # transformers 5.17 has AutoImageProcessor at its top level only where torchvision is installed.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    from .model.configuration_aict import AICTConfig
    from .model.image_processing_aict import AICTImageProcessor

    AutoImageProcessor.register(AICTConfig, slow_image_processor_class=AICTImageProcessor, exist_ok=True)
    AICTImageProcessor.register_for_auto_class()


def _register_pipeline(_: ModuleType) -> None:
    from transformers.models.auto.modeling_auto import AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY

    from .model.pipeline_aict import ImageHarmonizationPipeline
    from .pretrained import DEFAULT_CHECKPOINT

    task = "image-harmonization"
    PIPELINE_REGISTRY.register_pipeline(
        task, pipeline_class=ImageHarmonizationPipeline, pt_model=AutoModel, type="image"
    )
    # Not an argument of the call above: `save_pretrained` would write the default, a folder here, into each config.
    known = PIPELINE_REGISTRY.supported_tasks
    known[task] = {**known[task], "default": {"model": (DEFAULT_CHECKPOINT, None)}}


_MODEL = f"{__package__}.model"
_REGISTRATIONS = {
    f"{_MODEL}.configuration_aict": _register_config,
    f"{_MODEL}.modeling_aict": _register_model,
    f"{_MODEL}.image_processing_aict": _register_image_processor,
    f"{_MODEL}.pipeline_aict": _register_pipeline,
}
# Modules of transformers, and the modules that register their classes in them.
_AUTO_MODULES = {
    "transformers.models.auto.configuration_auto": f"{_MODEL}.configuration_aict",
    "transformers.models.auto.modeling_auto": f"{_MODEL}.modeling_aict",
    "transformers.models.auto.image_processing_auto": f"{_MODEL}.image_processing_aict",
    "transformers.pipelines": f"{_MODEL}.pipeline_aict",
}


__all__ = ["install"]
