"""The documents: examples in docstrings and Python blocks run, and the commands they show exist."""

import ast
import doctest
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer
from conftest import make_photo, write_cutouts
from PIL import Image

import aict_hf
from aict_hf.cli import app

PACKAGE = Path(aict_hf.__file__).parent
ROOT = PACKAGE.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "model_card.md", "space/README.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text()]
NOT_RUN = r"(?P<skip><!-- not run: .+ -->\n)?"
NEEDS = r"(<!-- needs (?P<package>\w+) -->\n)?"
BLOCK = re.compile(NOT_RUN + NEEDS + r"```python\n(?P<code>.*?)```", re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of the examples: composites, masks, a cut-out and the folder cutouts."""
    photo, mask = make_photo()
    Image.fromarray(photo).save(tmp_path / "composite.jpg", quality=95)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    write_cutouts(tmp_path / "cutouts")
    Image.open(tmp_path / "cutouts" / "kite" / "0.png").save(tmp_path / "cutout.png")
    photo, mask = make_photo(60, 80, seed=3)
    Image.fromarray(photo).save(tmp_path / "photo.jpg", quality=95)
    Image.fromarray(mask).save(tmp_path / "object.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_in_docstrings_give_what_they_say(path, folder):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    photo, mask = make_photo()
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, extraglobs={"photo": photo, "mask": mask}, optionflags=options)
    assert result.failed == 0  # doctest prints what failed
    assert result.attempted > 0


def blocks(path):
    return [(bool(found["skip"]), found["package"], found["code"]) for found in BLOCK.finditer(path.read_text())]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks for the old name
@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if blocks(path)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_python_blocks_of_documents_run(path, folder):
    """The blocks of a document run one after another, as a reader would try them."""
    names, missing = {}, []
    for skipped, package, code in blocks(path):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "aict_hf":
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), code
        if package and importlib.util.find_spec(package) is None:
            missing.append(package)
        elif not skipped:
            exec(compile(code, str(path), "exec"), names)
    if missing:
        pytest.skip(f"all other blocks run; {' and '.join(missing)} not installed")


def test_the_reference_lists_the_names_of_the_package():
    text = (ROOT / "docs" / "api.md").read_text()
    assert all(f"`{name}`" in text for name in aict_hf.__all__)


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def commands(path):
    """Command and options of the lines that begin with `aict`, in code blocks and between backticks."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    for line in re.findall(r"^aict (.+)$|`aict ([a-z][^`]+)`", text, re.MULTILINE):
        yield shlex.split(" ".join("".join(line).split()), comments=True)


def test_commands_in_documents_exist():
    known = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in typer.main.get_command(app).commands.items()
    }
    shown = [(path, words) for path in DOCUMENTS for words in commands(path)]
    assert {words[0] for _, words in shown} == set(known)
    for path, (name, *words) in shown:
        options = {word for word in words if word.startswith("-")}
        assert options <= known[name] | {"--help"}, f"{path}: aict {name} {options - known[name]}"
