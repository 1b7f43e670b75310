import ast
import importlib
import sys
from pathlib import Path

import pytest

import aict_hf

PACKAGE = Path(aict_hf.__file__).parent
LUT_FILES = {"lut", "lut_numba", "lut_positions", "lut_triton"}
CHECKPOINT_FILES = {
    *("backbone_efficientnet", "configuration_aict", "modeling_aict", "pipeline_aict"),
    *("color_difference", "image_processing_aict"),
    *LUT_FILES,
}
OPTIONAL = {"numba", "triton"}  # imported where they are there
CHECKPOINT_IMPORTS = {"torch", "numpy", "PIL", "transformers", "huggingface_hub"}  # the last for @strict alone
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))


def imports_of(module):
    """Siblings a module imports, and the top-level packages it imports."""
    siblings, packages = set(), set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            siblings |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packages.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
    return siblings, packages


@pytest.mark.parametrize("module", sorted(CHECKPOINT_FILES))
def test_files_that_travel_to_the_hub_import_only_each_other(module):
    siblings, packages = imports_of(module)
    assert siblings <= CHECKPOINT_FILES
    assert packages - set(sys.stdlib_module_names) <= CHECKPOINT_IMPORTS | OPTIONAL


def test_nothing_imports_upward():
    order = {}

    def depth(module):
        if module not in order:
            order[module] = None  # a cycle meets this
            order[module] = 1 + max((depth(sibling) for sibling in imports_of(module)[0] & set(MODULES)), default=0)
        assert order[module] is not None, f"{module} is part of an import cycle"
        return order[module]

    assert all(depth(module) for module in MODULES)
    for module in MODULES:
        assert module == "cli" or "cli" not in imports_of(module)[0]
        assert "diffusers_aict" not in imports_of(module)[0]  # needs an extra, and seconds to import


@pytest.mark.parametrize("module", [m for m in MODULES if m != "cli"])
def test_public_names_exist(module):  # ruff holds them sorted
    loaded = importlib.import_module(f"aict_hf.{module}")
    assert all(hasattr(loaded, name) for name in loaded.__all__)


def test_package_exports_exist_and_are_documented():
    for name in aict_hf.__all__:
        assert getattr(aict_hf, name).__doc__


def test_every_module_has_tests():
    tested = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert set(MODULES) - tested == {"errors", "published"}  # the latter is what others are tested against
    assert tested - set(MODULES) == {"evaluate", "examples", "package", "space", "space_browser", "train"}  # scripts


@pytest.mark.parametrize("module", MODULES)
def test_the_package_imports_nothing_that_is_built_on_it(module):
    tabs = {"batch_tab", "compose_tab", "harmonize_tab", "inside_tab"}
    outside = {"app", "harmonizer", "measuring", "space", "training", "uploads", *tabs}
    assert not imports_of(module)[1] & outside
