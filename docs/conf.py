"""Sphinx configuration. `make docs` builds the site into out/docs."""

import re
from importlib import metadata
from typing import Any

project = "aict_hf"
author = copyright = "The aict_hf authors"
version = release = metadata.version("aict_hf")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"{project} {release}"
myst_heading_anchors = 3

autosummary_ignore_module_all = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of dataclasses are described once, in the docstring of the class
napoleon_custom_sections = ["Source"]
default_role = "code"
copybutton_prompt_text = ">>> "


def docstring_to_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the text of docstrings as it is, since they use no markup but `code`, lists and examples.

    Asterisks stay asterisks, and an indented block in the docstring of a module is code.
    """
    result: list[str] = []
    in_code = False
    for line in lines:
        indented = line.startswith("    ")
        if what == "module" and indented and not in_code and result and not result[-1]:
            result += ["::", ""]
            in_code = True
        in_code = in_code and (indented or not line)
        if not in_code and not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`+[^`]*`+)", line)
            parts[::2] = [part.replace("*", r"\*") for part in parts[::2]]
            line = re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", "".join(parts))
        result.append(line)
    lines[:] = result


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", docstring_to_rst, priority=100)  # before napoleon
