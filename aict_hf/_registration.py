"""Make transformers' Auto classes and `pipeline(...)` know AICT, without importing transformers.

transformers registers models outside of it through its Auto modules, which takes seconds to import. An import hook
therefore waits until a program imports one of them. It also waits for the package's own modules, because a class must
be registered before it is saved: `save_pretrained` then writes its code along.

The hook only ever imports one module after another has been executed completely. transformers imports
`configuration_auto` in the middle of `modeling_utils`, so nothing that `configuration_aict` imports may need that file.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def install() -> None:
    """Register the classes as soon as transformers' Auto modules are imported; at once if they already are."""
    sys.meta_path.insert(0, _ImportHook())
    for theirs, ours in _OURS.items():
        if theirs in sys.modules:
            importlib.import_module(ours)


class _ImportHook(MetaPathFinder):
    """Calls `_AFTER_IMPORT[name]` once, after the module `name` has been executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _AFTER_IMPORT:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _call_after_execution(spec.loader, name)
                return spec
        return None


def _call_after_execution(loader: Loader, name: str) -> None:
    execute = loader.exec_module

    def execute_and_call(module: ModuleType) -> None:
        execute(module)
        if name in _AFTER_IMPORT:
            _AFTER_IMPORT.pop(name)()

    loader.exec_module = execute_and_call  # type: ignore[method-assign]


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from .model.configuration_aict import AICTConfig

    AutoConfig.register(AICTConfig.model_type, AICTConfig, exist_ok=True)
    AICTConfig.register_for_auto_class()


def _register_model() -> None:
    from transformers.models.auto.modeling_auto import AutoModel

    from .model.modeling_aict import AICTConfig, AICTModel

    AutoModel.register(AICTConfig, AICTModel, exist_ok=True)
    AICTModel.register_for_auto_class("AutoModel")


def _register_image_processor() -> None:
    # transformers 5.17 has AutoImageProcessor at its top level only where torchvision is installed.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    from .model.configuration_aict import AICTConfig
    from .model.image_processing_aict import AICTImageProcessor

    AutoImageProcessor.register(AICTConfig, slow_image_processor_class=AICTImageProcessor, exist_ok=True)
    AICTImageProcessor.register_for_auto_class()


def _register_pipeline() -> None:
    from transformers.models.auto.modeling_auto import AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY

    from .model.pipeline_aict import ImageHarmonizationPipeline

    PIPELINE_REGISTRY.register_pipeline(
        "image-harmonization", pipeline_class=ImageHarmonizationPipeline, pt_model=AutoModel, type="image"
    )


_MODEL = f"{__package__}.model"
# Modules of transformers, and the modules that register their classes in them.
_OURS = {
    "transformers.models.auto.configuration_auto": f"{_MODEL}.configuration_aict",
    "transformers.models.auto.modeling_auto": f"{_MODEL}.modeling_aict",
    "transformers.models.auto.image_processing_auto": f"{_MODEL}.image_processing_aict",
    "transformers.pipelines": f"{_MODEL}.pipeline_aict",
}
_AFTER_IMPORT: dict[str, Callable[[], object]] = {
    # If one of ours is what imports theirs, importing it again does nothing: it registers itself when it is complete.
    **{theirs: functools.partial(importlib.import_module, ours) for theirs, ours in _OURS.items()},
    f"{_MODEL}.configuration_aict": _register_config,
    f"{_MODEL}.modeling_aict": _register_model,
    f"{_MODEL}.image_processing_aict": _register_image_processor,
    f"{_MODEL}.pipeline_aict": _register_pipeline,
}


__all__ = ["install"]
