"""The rooms of the package: which may import which, and that each module has tests."""

import ast
import importlib
import sys
from pathlib import Path

import pytest
from conftest import run_afresh

import aict_hf

PACKAGE = Path(aict_hf.__file__).parent
TESTS = Path(__file__).parent
# What each folder of the package may import of the package, beside itself: a house without stairs back up.
BELOW = {
    "model": set(),
    "files": {"errors"},
    "compose": {"errors", "files", "model"},
    "data": {"errors", "files", "model"},
    "harmonize": {"compose", "errors", "files", "model", "pretrained"},
    "export": {"errors", "files", "harmonize", "model", "pretrained"},
    "augment": {"compose", "errors", "files", "harmonize", "model", "pretrained"},
}
OPTIONAL = {"numba", "triton"}  # imported where they are there
HUB_IMPORTS = {"torch", "numpy", "PIL", "transformers", "huggingface_hub"}  # the last for @strict alone
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    for path in PACKAGE.rglob("*.py")
    if not path.stem.startswith("__")
)
SCRIPTS = {
    "ablations",
    "compare_results",
    "docs",
    "evaluate",
    "examples",
    "package",
    "space",
    "space_browser",
    "train",
    "user_study",
    "user_study_browser",
}
UNTESTED = {"_registration", "errors", "published"}  # the first is tested here; others are tested against the last


def imports_of(module):
    """Modules of the package that a module imports, and the top-level packages it imports."""
    inside, packages = set(), set()
    folder = module.split(".")[:-1]
    for node in ast.walk(ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = folder[: len(folder) - node.level + 1]
            named = [node.module] if node.module else [alias.name for alias in node.names]
            inside |= {".".join([*above, name]) for name in named}
        elif isinstance(node, ast.ImportFrom):
            packages.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
    return inside, packages


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("model.")])
def test_files_that_travel_to_the_hub_are_flat_and_import_only_one_another(module):
    inside, packages = imports_of(module)
    assert module.count(".") == 1
    assert all(name.startswith("model.") for name in inside)
    assert packages - set(sys.stdlib_module_names) <= HUB_IMPORTS | OPTIONAL


@pytest.mark.parametrize("folder", BELOW)
def test_a_folder_imports_only_what_is_below_it(folder):
    for module in MODULES:
        if module.split(".")[0] == folder:
            rooms = {name.split(".")[0] for name in imports_of(module)[0]}
            assert rooms <= BELOW[folder] | {folder}, module


def test_the_folders_stand_in_an_order():
    """No circle: each folder can be put above all that it imports."""
    placed = {"errors", "pretrained"}
    left = dict(BELOW)
    while left:
        ready = {folder for folder, below in left.items() if below <= placed}
        assert ready, f"{sorted(left)} import one another in a circle"
        placed |= ready
        left = {folder: below for folder, below in left.items() if folder not in ready}
    assert imports_of("pretrained")[0] <= {"errors", "model.image_processing_aict", "model.modeling_aict"}
    folders = {module.split(".")[0] for module in MODULES if "." in module}
    assert folders == set(BELOW)


def test_no_module_is_part_of_a_circle():
    depths = {}

    def depth(module):
        if module not in depths:
            depths[module] = None  # a circle meets this
            depths[module] = 1 + max((depth(name) for name in imports_of(module)[0] & set(MODULES)), default=0)
        assert depths[module] is not None, f"{module} is part of an import circle"
        return depths[module]

    assert all(depth(module) for module in MODULES)


@pytest.mark.parametrize("module", [module for module in MODULES if module != "cli"])
def test_public_names_exist(module):  # ruff holds them sorted
    loaded = importlib.import_module(f"aict_hf.{module}")
    assert all(hasattr(loaded, name) for name in loaded.__all__)


def test_package_exports_exist_and_are_documented():
    for name in aict_hf.__all__:
        assert getattr(aict_hf, name).__doc__


def test_public_names_are_listed_and_others_are_an_error():
    assert set(aict_hf.__all__) <= set(dir(aict_hf))
    with pytest.raises(AttributeError, match="module 'aict_hf' has no attribute 'harmonise'"):
        aict_hf.harmonise  # noqa: B018


def test_importing_the_package_and_asking_for_help_loads_no_torch(tmp_path):
    program = """
import sys
import aict_hf
assert not {"numpy", "torch", "transformers"} & set(sys.modules)
from aict_hf import cli
sys.argv = ["aict", "--help"]
try:
    cli.main()
except SystemExit as stop:
    assert not stop.code
assert "torch" not in sys.modules
"""
    run_afresh(program, tmp_path)


TRANSFORMERS = """
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.pipelines import PIPELINE_REGISTRY, Pipeline
"""
OTHERS = """
class OtherConfig(PreTrainedConfig):
    model_type = "other"
class OtherModel(PreTrainedModel):
    config_class = OtherConfig
class OtherPipeline(Pipeline):
    pass
AutoConfig.register("other", OtherConfig)
AutoModel.register(OtherConfig, OtherModel)
PIPELINE_REGISTRY.register_pipeline("other-task", pipeline_class=OtherPipeline, pt_model=AutoModel)
"""
USE = """
from pathlib import Path
from PIL import Image
assert type(AutoConfig.from_pretrained("model")).__module__ == "aict_hf.model.configuration_aict"
model, processor = AutoModel.from_pretrained("model"), AutoImageProcessor.from_pretrained("model")
assert type(model).__module__ == "aict_hf.model.modeling_aict"
assert type(processor).__module__ == "aict_hf.model.image_processing_aict"
pipe = pipeline("image-harmonization", model=model, image_processor=processor, device="cpu")
assert pipe(Image.new("RGB", (20, 10)), Image.new("L", (20, 10), 255)).size == (20, 10)
pipe.save_pretrained("saved")
model.save_pretrained("saved_model")
processor.save_pretrained("saved_processor")
written = {path.name for path in Path().glob("saved*/*.py")}
assert {f"{part}_aict.py" for part in ("configuration", "image_processing", "modeling", "pipeline")} <= written
assert type(AutoConfig.for_model("other")) is OtherConfig
assert type(AutoModel.from_config(OtherConfig())) is OtherModel
assert PIPELINE_REGISTRY.check_task("other-task")[1]["impl"] is OtherPipeline
"""


PACKAGE_LAST = TRANSFORMERS + OTHERS + "import aict_hf" + USE
SLOW = pytest.mark.slow  # the tests themselves import a model's class first


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import aict_hf" + TRANSFORMERS + OTHERS + USE, id="package first"),
        pytest.param(PACKAGE_LAST, id="package last"),
        pytest.param("import aict_hf.model.modeling_aict" + TRANSFORMERS + OTHERS + USE, id="model first", marks=SLOW),
        pytest.param(
            "import aict_hf.model.pipeline_aict" + TRANSFORMERS + OTHERS + USE, id="pipeline first", marks=SLOW
        ),
        pytest.param(
            "import transformers, aict_hf.model.image_processing_aict" + TRANSFORMERS + OTHERS + USE,
            id="image processor first",
            marks=SLOW,
        ),
    ],
)
def test_transformers_knows_the_model_in_every_order_of_imports(program, forks, model, processor, tmp_path):
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    for code in (tmp_path / "model").glob("*.py"):
        code.unlink()  # so that the installed package is what loads
    if program == PACKAGE_LAST:
        forks.lines(["-c", program], tmp_path)
    else:
        run_afresh(program, tmp_path)


def test_tests_mirror_the_package():
    for module in MODULES:
        *folders, name = module.split(".")
        names = [f"test_{name}.py", *(f"test_{verb}_{name}.py" for verb in folders)]
        assert name in UNTESTED or any(TESTS.joinpath(*folders, test).is_file() for test in names), module
    stems = [path.stem for path in TESTS.rglob("test_*.py")]
    assert len(stems) == len(set(stems)), "pytest needs names that differ"
    alone = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    assert alone - set(MODULES) == SCRIPTS


@pytest.mark.parametrize("module", MODULES)
def test_the_package_imports_nothing_that_is_built_on_it(module):
    tabs = {"batch_tab", "compose_tab", "harmonize_tab", "inside_tab", "video_tab"}
    outside = {"app", "harmonizer", "measuring", "object_finder", "space", "training", "uploads", *tabs}
    assert not imports_of(module)[1] & outside
