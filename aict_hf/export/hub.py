"""Export a checkpoint as a complete model repository: weights, configs, code, model card and example pictures."""

import os
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard
from transformers.utils import cached_file

from ..errors import InputError, one_line
from ..files.atomic_write import atomic_folder
from ..harmonize.onnx_network import GRAPH
from ..model.pipeline_aict import ImageHarmonizationPipeline
from ..pretrained import bundled_checkpoints, checkpoint_location, load_checkpoint
from .converter import stored_state_dict
from .model_card import complete_front_matter, model_card, read_results, result_files
from .options import StoredDtype

PACKAGE = Path(__file__).parents[1]
EXAMPLES = ("dogs_composite.jpg", "dogs_mask.png", "demo.jpg", "failures.jpg", "LICENSES.md")
RESULTS = "evaluation"  # folder of a checkpoint with the JSON files of training/evaluate.py
FRONT_MATTER: dict[str, Any] = {
    "library_name": "transformers",
    "pipeline_tag": "image-to-image",
    "tags": ["image-harmonization", "image-compositing", "aict"],
}


def export_repository(
    checkpoint: str | os.PathLike | None, out_dir: str | os.PathLike, *, dtype: StoredDtype | None = None
) -> Path:
    """Write a folder that `AutoModel.from_pretrained(..., trust_remote_code=True)` loads without this package.

    Args:
        checkpoint: name of a bundled checkpoint, folder or Hub repository; None means the default checkpoint. Its
            README.md becomes the model card; bundled checkpoints share the package's model_card.md. The JSON files of
            training/evaluate.py in its folder `evaluation` fill the figures of the card. Its `network.onnx`, if it has
            one, comes along; the dtype of the weights makes no difference to it.
        out_dir: folder to write. It must be new or empty.
        dtype: dtype of the stored weights: float32, float16 or bfloat16; None keeps theirs.
    Returns:
        `out_dir`.
    Raises:
        InputError: if the checkpoint cannot be loaded, or `out_dir` cannot be written. No partial folder is left.
    """
    source = checkpoint_location(checkpoint)
    model, processor = load_checkpoint(source)
    weights, graph = (_file_of(source, name) for name in ("model.safetensors", GRAPH))
    results = result_files(Path(source) / RESULTS)
    card = _card(source)
    examples = [_packaged(f"examples/{name}") for name in EXAMPLES]
    with atomic_folder(Path(out_dir)) as partial:
        ImageHarmonizationPipeline(model=model, image_processor=processor, task="image-harmonization").save_pretrained(
            str(partial)
        )
        if dtype is not None:
            model.save_pretrained(partial, state_dict=stored_state_dict(model, dtype))
        elif weights is not None:
            shutil.copyfile(weights, partial / "model.safetensors")
        if graph is not None:
            shutil.copyfile(graph, partial / GRAPH)
        for folder, files in ((RESULTS, results), ("examples", examples)):
            (partial / folder).mkdir()
            for file in files:
                shutil.copyfile(file, partial / folder / file.name)
        card.save(partial / "README.md")
    return Path(out_dir)


def push_repository(folder: Path, repository: str, *, private: bool = False, create_pr: bool = False) -> str:
    """Upload an exported folder to the Hub. A repository that does not exist is created.

    Args:
        folder: folder that `export_repository` wrote.
        repository: "organization/name".
        private: make a new repository private.
        create_pr: open a pull request instead of committing.
    Returns:
        address of the commit or pull request.
    Raises:
        InputError: if the Hub refuses the upload or cannot be reached.
    """
    api = HfApi()
    try:
        if not create_pr:
            api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload AICT", create_pr=create_pr
        )
    except Exception as error:  # many types: no login, no such name, no network
        reason = f"cannot be uploaded to ({one_line(error)[:300]}); to try again: hf upload {repository} {folder}"
        raise InputError(f"{repository}: {reason}") from error
    return commit.pr_url or commit.commit_url


def _card(source: str) -> ModelCard:
    bundled = Path(source).resolve() in [folder.resolve() for folder in bundled_checkpoints().values()]
    own = _packaged("model_card.md") if bundled else _file_of(source, "README.md")
    if own is None:
        raise InputError(f"{source}: has no README.md for a model card; write one that says what trained it")
    measured = read_results(Path(source) / RESULTS)
    try:
        card = model_card(own.read_text(encoding="utf-8"), measured)
        complete_front_matter(card, FRONT_MATTER)
    except Exception as error:  # many types: the markers, the YAML of the front matter, its fields
        raise InputError(f"{own}: cannot be made a model card ({one_line(error)})") from error
    return card


def _file_of(source: str, name: str) -> Path | None:
    try:
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise InputError(f"{source}: {name} cannot be read ({one_line(error)[:200]})") from error
    if found and Path(found).is_symlink() and Path(source).is_dir():
        raise InputError(
            f"{found}: is a symbolic link, which could publish another file; replace it by the file itself"
        )
    return Path(found) if found else None


def _packaged(name: str) -> Path:
    """A file of the top level of this project: in the package if it is installed, above it in a clone."""
    installed = PACKAGE / name
    found = installed if installed.is_file() else PACKAGE.parent / name
    if not found.is_file():
        raise InputError(f"{found}: is missing from this installation of aict_hf; install it again")
    return found


__all__ = ["export_repository", "push_repository"]
