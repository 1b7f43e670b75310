import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HUB_COMMIT, make_photo, put_in_cache, small_config
from forks import ForkServer
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from test_model_card import TEXT, write_results

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel
from aict_hf.errors import InputError
from aict_hf.export.hub import export_repository, push_repository
from aict_hf.harmonize.onnx_network import onnx_obstacle
from aict_hf.pretrained import bundled_checkpoints, load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
OLDEST = Path(os.environ.get("AICT_OLDEST_TRANSFORMERS", ROOT / ".venv" / "oldest"))
HIDDEN = """
import sys
for name in ("aict_hf", "numba", "triton"):
    sys.modules[name] = None  # importing it fails
"""
REMOTE = """
import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor
trust = {"trust_remote_code": True}
assert AutoConfig.from_pretrained(SOURCE, **trust).model_type == "aict"
model = AutoModel.from_pretrained(SOURCE, **trust)
processor = AutoImageProcessor.from_pretrained(SOURCE, **trust)
with torch.no_grad():
    outputs = model(**processor(Image.open("photo.png"), Image.open("mask.png"), return_tensors="pt"))
np.savez("out.npz", knots=outputs.knots, color_lut=outputs.color_lut, harmonized=outputs.harmonized)
pipe = pipeline("image-harmonization", model=SOURCE, device="cpu", **trust)
pipe("photo.png", "mask.png").save("out.png")
"""
INSTALLED = """
import numpy as np
import torch
from PIL import Image
from aict_hf import AICTImageProcessor, AICTModel
model, processor = AICTModel.from_pretrained(SOURCE), AICTImageProcessor.from_pretrained(SOURCE)
composite, mask = Image.open("photo.png"), Image.open("mask.png")
with torch.no_grad():
    outputs = model(**processor(composite, mask, return_tensors="pt"))
np.savez("out.npz", knots=outputs.knots, color_lut=outputs.color_lut, harmonized=outputs.harmonized)
processor.post_process_harmonization(outputs, composite, mask)[0].save("out.png")
"""


@pytest.fixture
def mine(model, processor, tmp_path):
    """A checkpoint of one's own, as training leaves it."""
    folder = tmp_path / "mine"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(TEXT)
    write_results(folder / "evaluation")
    return folder


@pytest.fixture(scope="module", params=["installed", "oldest"])
def python(request, forks, tmp_path_factory):
    """A server of forks that has imported this version of transformers."""
    if request.param == "installed":
        yield forks
        return
    if not OLDEST.is_dir():
        pytest.skip(f"no {OLDEST}: `make test` installs the oldest transformers there")
    server = ForkServer(tmp_path_factory.mktemp("oldest"), packages=OLDEST)
    yield server
    server.close()


@pytest.mark.parametrize(
    ("program", "source"),
    [(HIDDEN + REMOTE, "folder"), (HIDDEN + REMOTE, "org/aict"), (INSTALLED, "org/aict")],
    ids=["folder without the package", "cache without the package", "cache with the package"],
)
def test_it_loads_where_people_will_load_it(program, source, python, model, processor, mine, tmp_path):
    exported = export_repository(mine, tmp_path / "exported")
    put_in_cache(exported, tmp_path / "home" / "hub")
    photo, mask = make_photo()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    location = str(exported) if source == "folder" else source
    python.lines(["-c", f"SOURCE = {location!r}\n{program}"], tmp_path)
    with torch.no_grad():
        ours = model(**processor(photo, mask, return_tensors="pt"))
    theirs = np.load(tmp_path / "out.npz")
    for name in ("knots", "color_lut", "harmonized"):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=1e-6)
    expected = processor.post_process_harmonization(ours, photo, mask)[0]
    difference = np.abs(np.asarray(Image.open(tmp_path / "out.png"), int) - expected)
    assert difference.max() <= 1  # one rounds in numba, one in torch


@pytest.mark.parametrize("transform", ["curves", "affine", "adaint_seplut", "filters"])
def test_other_colour_transformations_load_from_the_hub_without_the_package(transform, forks, processor, tmp_path):
    torch.manual_seed(0)
    fields = small_config().to_dict() | {"color_transform": transform}
    model = AICTModel(AICTConfig.from_dict(fields)).eval()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text(TEXT)
    exported = export_repository(tmp_path / "mine", tmp_path / "exported")
    photo, mask = make_photo()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    program = HIDDEN + REMOTE.replace("knots=outputs.knots, color_lut=outputs.color_lut, ", "")
    forks.lines(["-c", f"SOURCE = {str(exported)!r}\n{program}"], tmp_path)
    with torch.no_grad():
        ours = model(**processor(photo, mask, return_tensors="pt"))
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["harmonized"], ours.harmonized, rtol=0, atol=1e-6)
    [expected] = processor.post_process_harmonization(ours, photo, mask, kind=model.config.transform_kind)
    assert np.abs(np.asarray(Image.open(tmp_path / "out.png"), int) - expected).max() <= 1


def test_the_folder_is_complete(mine, tmp_path):
    (mine / "evaluation" / "grid.jpg").write_bytes(b"photos of others")
    (mine / "evaluation" / "link.json").symlink_to(tmp_path / "private.json")
    exported = export_repository(mine, tmp_path / "exported")
    assert [path.name for path in (exported / "evaluation").iterdir()] == ["out_of_domain.json"]
    code = {path.name for path in (ROOT / "aict_hf" / "model").glob("[!_]*.py")}
    assert {"configuration_aict.py", "image_processing_aict.py", "modeling_aict.py", "pipeline_aict.py"} <= code
    rest = {"README.md", "config.json", "preprocessor_config.json", "model.safetensors", "examples", "evaluation"}
    assert {path.name for path in exported.iterdir()} == code | rest
    assert (exported / "examples" / "LICENSES.md").is_file()
    card = ModelCard.load(exported / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-to-image")
    assert card.data.license == "apache-2.0"
    assert {result.metric_type for result in card.data.eval_results} >= {"fmse", "not_worse"}
    assert "| 900 | 0.61 |" in card.text


def test_bundled_checkpoints_keep_their_weights_and_have_the_card(tmp_path):
    for name, folder in bundled_checkpoints().items():
        exported = export_repository(name, tmp_path / name)
        for copied in ("model.safetensors", "network.onnx"):
            assert (exported / copied).read_bytes() == (folder / copied).read_bytes()
        assert onnx_obstacle(exported) is None
        card = ModelCard.load(exported / "README.md")
        assert card.data.tags
        assert card.data.license


def test_weights_are_stored_as_asked(mine, tmp_path):
    exported = export_repository(mine, tmp_path / "half", dtype="float16")
    weights = load_file(exported / "model.safetensors")
    assert weights["decoder.weight"].dtype == torch.float16
    assert weights["image_weight_head.norm1.running_mean"].dtype == torch.float32
    again, _ = load_checkpoint(exported)
    assert again.dtype == torch.float32
    load_checkpoint(export_repository(exported, tmp_path / "again"))
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (exported / "model.safetensors").read_bytes()


def test_what_cannot_be_exported_leaves_nothing(mine, tmp_path):
    (mine / "README.md").write_text("no markers")
    with pytest.raises(InputError, match=r"README.md: cannot be made a model card \(expected a line <!-- fig"):
        export_repository(mine, tmp_path / "exported")
    (mine / "README.md").write_text(TEXT.replace("license: apache-2.0", "title: a: b"))
    with pytest.raises(InputError, match=r"README.md: cannot be made a model card"):
        export_repository(mine, tmp_path / "exported")
    (mine / "README.md").write_text(TEXT)
    with pytest.raises(InputError, match="exists already"):
        export_repository(mine, mine)
    (mine / "README.md").unlink()
    with pytest.raises(InputError, match=r"has no README.md for a model card"):
        export_repository(mine, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_users_arguments_do_what_they_do_in_transformers(model, mine, tmp_path):
    put_in_cache(export_repository(mine, tmp_path / "exported"), tmp_path / "cache")
    options = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    loaded = AICTModel.from_pretrained("org/aict", revision=HUB_COMMIT, **options)
    assert torch.equal(loaded.decoder.weight, model.decoder.weight)
    assert AICTImageProcessor.from_pretrained("org/aict", revision=HUB_COMMIT, **options).size["height"] == 32
    changed = {"dtype": torch.bfloat16, "device_map": "auto", "attn_implementation": "eager"}
    loaded = AICTModel.from_pretrained("org/aict", **changed, **options)
    assert loaded.dtype == torch.bfloat16
    assert loaded.config._attn_implementation == "eager"
    for wrong in ({"revision": "another"}, {"cache_dir": tmp_path / "empty"}):
        with pytest.raises(OSError, match=r"org/aict|cached files"):
            AICTModel.from_pretrained("org/aict", **(options | wrong))


def test_pushing_says_where_or_why_not(mine, tmp_path, monkeypatch):
    calls = []

    class Hub:
        def create_repo(self, name, **options):
            calls.append(("create_repo", name, options))

        def upload_folder(self, **options):
            calls.append(("upload_folder", options["repo_id"], options["create_pr"]))
            if options["repo_id"] == "org/forbidden":
                raise PermissionError("403 you may not")
            commit = type("Commit", (), {})()
            commit.pr_url = "https://hub/pr/1" if options["create_pr"] else None
            commit.commit_url = "https://hub/commit/1"
            return commit

    monkeypatch.setattr("aict_hf.export.hub.HfApi", Hub)
    assert push_repository(mine, "org/aict", private=True) == "https://hub/commit/1"
    assert push_repository(mine, "org/aict", create_pr=True) == "https://hub/pr/1"
    assert calls == [
        ("create_repo", "org/aict", {"private": True, "exist_ok": True}),
        ("upload_folder", "org/aict", False),
        ("upload_folder", "org/aict", True),
    ]
    with pytest.raises(InputError, match=r"org/forbidden: cannot be uploaded to \(403 you may not\)"):
        push_repository(mine, "org/forbidden")
