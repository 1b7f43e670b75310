"""Model cards with figures from the results of `training/evaluate.py`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from ..errors import InputError

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
METHODS = ("composite", "Reinhard to background", "histogram to background")
METRICS = {
    "fmse": "fMSE",
    "of_composite": "of the composite's",
    "ciede2000": "CIEDE2000",
    "not_worse": "not worse",
    "no_harm": "no harm",
    "drift": "drift",
}
TITLES = {
    "in_domain.txt": "photos held out at random",
    "out_of_domain.txt": "photos of sources never trained on",
    None: "all photos",
}


def result_files(folder: Path) -> list[Path]:
    """The JSON files of a folder, sorted by name, without symbolic links."""
    return [path for path in sorted(folder.glob("*.json")) if not path.is_symlink()]


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read the results of `training/evaluate.py` for a checkpoint.

    Args:
        folder: folder of JSON files; may be empty or missing.
    Returns:
        contents of the files, in the order of their names, each with the name of the checkpoint as "checkpoint".
    Raises:
        InputError: if a file is not a result of evaluate.py, or the files measure different checkpoints.
    """
    results: list[dict[str, Any]] = []
    for path in result_files(folder):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            measured = [method for method in result["summary"] if method not in METHODS]
            for field in ("dataset", "device", "images", "resolution"):
                result[field]
            for method in (*METHODS, *measured):
                result["summary"][method]["fmse"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is not a results.json of training/evaluate.py") from error
        if len(measured) != 1 or (results and measured != [results[0]["checkpoint"]]):
            raise InputError(
                f"{path}: measures {', '.join(measured) or 'nothing'}; expected one checkpoint, the same in all files"
            )
        results.append(result | {"checkpoint": measured[0]})
    return results


def figures_table(results: list[dict[str, Any]]) -> str:
    """Markdown table that compares a checkpoint with the composite and simple baselines, on each set of photos.

    Args:
        results: results from `read_results`.
    """
    lines = [f"| measured on | method | {' | '.join(METRICS.values())} |", "|---|---|" + "---|" * len(METRICS)]
    for result in results:
        where = f"{_title(result)} ({result['images']} composites)"
        for method in (*METHODS, result["checkpoint"]):
            cells = [_cell(metric, result["summary"][method].get(metric)) for metric in METRICS]
            lines.append(f"| {where} | {method} | {' | '.join(cells)} |")
    devices = ", ".join(sorted({result["device"] for result in results}))
    resolutions = ", ".join(sorted({str(result["resolution"]) for result in results}))
    lines += [
        "",
        f"Resolution: {resolutions}; device: {devices}. fMSE is the squared error per foreground pixel (0 to 255).",
    ]
    return "\n".join(lines)


def fill_figures(text: str, table: str) -> str:
    """Replace the part of a document between the markers `BEGIN` and `END` by a table.

    Raises:
        ValueError: if a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected a line {BEGIN} and a line {END} to put the figures between")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def model_card(text: str, results: list[dict[str, Any]]) -> ModelCard:
    """Make a model card with a table and a model-index from results.

    Args:
        text: Markdown with a YAML front matter, and with the two markers if there are results.
        results: results from `read_results`. An empty list leaves the text unchanged.
    Raises:
        ValueError: if there are results and a marker is missing.
    """
    card = ModelCard(fill_figures(text, figures_table(results)) if results else text)
    if results:
        data: Any = card.data
        data.model_name = results[0]["checkpoint"]
        data.eval_results = [
            EvalResult(
                task_type="image-to-image",
                task_name="image harmonization",
                dataset_type=result["dataset"],
                dataset_name=f"{result['dataset']}: {_title(result)}",
                dataset_config=f"{result['resolution']} resolution",
                dataset_split=_title(result),
                metric_type=metric,
                metric_name=METRICS[metric],
                metric_value=round(result["summary"][result["checkpoint"]][metric], 4),
            )
            for result in results
            for metric in METRICS
            if result["summary"][result["checkpoint"]].get(metric) is not None
        ]
    return card


def complete_front_matter(card: ModelCard, front_matter: Mapping[str, Any]) -> None:
    """Add the fields of a front matter that a card does not have."""
    for field, value in front_matter.items():
        if not card.data.get(field):
            card.data[field] = value


def _title(result: Mapping[str, Any]) -> str:
    return TITLES.get(result.get("photos"), str(result.get("photos")))


def _cell(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if metric in ("fmse", "no_harm", "drift") else f"{value:.2f}"


__all__ = ["complete_front_matter", "figures_table", "fill_figures", "model_card", "read_results", "result_files"]
