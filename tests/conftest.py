"""Small models and pictures that the tests share."""

import csv
import gc
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import ForkServer
from PIL import Image

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: its kernels then run on the CPU

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel, Harmonizer

LONG = {
    "test_augment_files",
    "test_cli",
    "test_graphs",
    "test_lut_triton",
    "test_pipeline_aict",
    "test_space",
    "test_train",
}
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)  # first, so that none of them runs alone at the end
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden outputs and photos the authors of this project keep outside the repository."""
    if not (SHARED / "reference" / "golden.npz").is_file():
        pytest.skip("the reference files (../shared) are not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def recipe(shared):
    """The module that makes the golden files' weights and inputs."""
    sys.path.insert(0, str(shared / "reference"))
    try:
        import recipe
    finally:
        sys.path.pop(0)
    return recipe


@pytest.fixture
def half_read():
    """`datasets` leaves files open whose first rows alone were read; close them while the warning is ignored."""
    yield
    gc.collect()


@pytest.fixture
def config() -> AICTConfig:
    return small_config()


def small_config() -> AICTConfig:
    return AICTConfig(
        image_size=32,
        patch_size=4,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_intervals=4,
        decoder_channels=6,
    )


@pytest.fixture
def model(config) -> AICTModel:
    return small_model(config)


def small_model(config: AICTConfig) -> AICTModel:
    """A small network with random weights whose LUTs are far from the identity."""
    torch.manual_seed(0)
    model = AICTModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def save_small_checkpoint(folder: Path) -> Path:
    """A folder with the small network and its processor."""
    config = small_config()
    small_model(config).save_pretrained(folder)
    AICTImageProcessor(size=config.image_size).save_pretrained(folder)
    return folder


@pytest.fixture
def processor(config) -> AICTImageProcessor:
    return AICTImageProcessor(size=config.image_size)


@pytest.fixture
def harmonizer(model, processor) -> Harmonizer:
    """The small network with its processor."""
    return Harmonizer(model, processor)


def make_inputs(batch: int = 2, size: int = 32, seed: int = 0) -> dict[str, torch.Tensor]:
    """Low-resolution images with a rectangular foreground, as the model takes them."""
    generator = torch.Generator().manual_seed(seed)
    pixel_values = torch.rand(batch, 3, size, size, generator=generator)
    mask = torch.zeros(batch, 1, size, size)
    mask[:, :, 8:20, 6:24] = 1
    return {"pixel_values": pixel_values, "mask": mask}


def full_resolution(sizes: list[tuple[int, int]], seed: int = 1) -> dict[str, list[torch.Tensor]]:
    """Full-resolution composites, masks and labels of these heights and widths."""
    generator = torch.Generator().manual_seed(seed)
    composites = [torch.rand(3, *size, generator=generator) for size in sizes]
    masks = [(torch.rand(1, *size, generator=generator) > 0.5).float() for size in sizes]
    labels = [torch.rand(3, *size, generator=generator) for size in sizes]
    return {"full_composites": composites, "full_masks": masks, "labels": labels}


def gradients_by_checkpointing(model: AICTModel, parameter: torch.nn.Parameter, size: int = 32) -> list[torch.Tensor]:
    """A parameter's gradients without gradient checkpointing and with it; no dropout."""
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.config.attention_probs_dropout_prob = 0.0
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            newest = hasattr(model, "activation_checkpointing_enable")  # transformers 5.23 renamed it
            (model.activation_checkpointing_enable if newest else model.gradient_checkpointing_enable)()
        model.zero_grad()
        model(**make_inputs(size=size), **full_resolution([(40, 48), (64, 37)])).loss.backward()
        gradients.append(parameter.grad.clone())
    return gradients


def make_photo(height: int = 40, width: int = 56, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth RGB photo (H, W, 3) and a soft elliptic mask (H, W), both uint8; the mask is 0 along all borders."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + rng.uniform(0, 6)) for _ in range(3)]
    photo = np.stack(waves, axis=-1) * 100 + 128 + rng.normal(0, 3, (height, width, 3))
    radius = np.hypot((y - 0.5) / 0.3, (x - 0.45) / 0.3)
    mask = np.clip((1.2 - radius) / 0.4, 0, 1)
    return photo.clip(0, 255).astype(np.uint8), (mask * 255).round().astype(np.uint8)


HUB_COMMIT = "0123456789abcdef" * 2 + "01234567"


def write_bright_model(path: Path, *, weight: float = 1.0, channels: int = 3) -> None:
    """Write a network with the shapes of rembg's u2net that takes the brightest pixels for the object.

    It gives the mean of the channels times `weight`: (1, 3, 320, 320) to (1, 1, 320, 320).
    """
    import onnx

    node = onnx.helper.make_node
    names = {
        name: onnx.helper.make_tensor_value_info(name, 1, (1, n, 320, 320))
        for name, n in (("in", channels), ("out", 1))
    }
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, (1,), (1,))
    factor = onnx.helper.make_tensor("weight", onnx.TensorProto.FLOAT, (), (weight,))
    nodes = [node("ReduceMean", ["in", "axes"], ["mean"]), node("Mul", ["mean", "weight"], ["out"])]
    graph = onnx.helper.make_graph(nodes, "bright", [names["in"]], [names["out"]], [axes, factor])
    opset = [onnx.helper.make_opsetid("", 18)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture
def rembg_home(tmp_path, monkeypatch) -> Path:
    """The folder of rembg's models, with `write_bright_model` under the name of u2net."""
    pytest.importorskip("rembg")
    home = tmp_path / "rembg_models"
    monkeypatch.setenv("U2NET_HOME", str(home))
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")  # for earlier versions, which check all files that they find
    write_bright_model(home / "u2net.onnx")
    return home


def photo_of_a_ball(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball with a soft edge on a dark ground, and its opacity in [0, 1]."""
    rows, columns = np.mgrid[:height, :width]
    opacity = np.clip((16 - np.hypot(rows - 20, columns - 30)) / 6, 0, 1)[..., None]
    return (opacity * 230 + (1 - opacity) * 20).repeat(3, axis=2).round().astype(np.uint8), opacity[..., 0]


def put_in_cache(exported: Path, cache: Path) -> None:
    """Lay out a model folder as the Hub's cache holds it, as `org/aict`."""
    repository = cache / "models--org--aict"
    shutil.copytree(exported, repository / "snapshots" / HUB_COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(HUB_COMMIT)


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Runs Python commands in forks of a process that has imported transformers, but not `aict_hf`; see forks.py."""
    server = ForkServer(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


def run_afresh(program: str, folder: Path) -> None:
    """Run Python code in `folder`, in a process that starts with no imports; its Hub cache is `folder / "home"`."""
    environment = os.environ | {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("TRITON_INTERPRET", None)
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=folder,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr


def write_shards(folder: Path, shards: int = 2, photos: int = 5) -> str:
    """Webdataset shards of photos (`jpg`) with masks (`mask.png`); the pattern that names them."""
    folder.mkdir(exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"pool-{shard}.tar", "w") as archive:
            for index in range(photos):
                photo, mask = make_photo(60, 80, seed=shard * photos + index)
                for extension, format_name, array in (("jpg", "JPEG", photo), ("mask.png", "PNG", mask)):
                    encoded = io.BytesIO()
                    Image.fromarray(array).save(encoded, format_name, quality=95)
                    member = tarfile.TarInfo(f"{shard}{index}.{extension}")
                    member.size = encoded.tell()
                    encoded.seek(0)
                    archive.addfile(member, encoded)
    return f"{folder}/pool-*.tar"


def write_pool(folder: Path, photos: int, height: int = 60, width: int = 80) -> Path:
    """A pool of photos `0.png`, `1.png`, ... with masks and the metadata.csv that names them."""
    folder.mkdir(exist_ok=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "mask", "kind"])
        for seed in range(photos):
            photo, mask = make_photo(height, width, seed=seed)
            Image.fromarray(photo).save(folder / f"{seed}.png")
            Image.fromarray(mask).save(folder / f"{seed}_mask.png")
            writer.writerow([f"{seed}.png", f"{seed}_mask.png", "object"])
    return folder


@pytest.fixture
def pool(tmp_path) -> Path:
    """Five photos of 60 x 80 pixels, the first of them without a mask."""
    folder = write_pool(tmp_path, 5)
    metadata = (folder / "metadata.csv").read_text()
    (folder / "metadata.csv").write_text(metadata.replace("0.png,0_mask.png", "0.png,"))
    return folder


def write_coco_dataset(folder: Path, images: int = 4, height: int = 60, width: int = 80) -> Path:
    """Images `images/0.jpg`, ... and `annotations.json` with a polygon of two parts, RLE of both kinds and a crowd."""
    from aict_hf.augment.annotations import mask_rle

    (folder / "images").mkdir(parents=True)
    records, annotations = [], []
    for number in range(images):
        photo, mask = make_photo(height, width, seed=number)
        Image.fromarray(photo).save(folder / "images" / f"{number}.jpg", quality=95)
        records.append(
            {"id": 10 + number, "file_name": f"{number}.jpg", "width": width, "height": height, "license": 3}
        )
        crowd = np.zeros((height, width), bool)
        crowd[-8:, 10:] = True
        columns = mask.T.ravel() > 127
        edges = np.flatnonzero(np.diff(np.r_[0, columns.astype(int)]))
        counts = np.diff(np.r_[0, edges, columns.size]).tolist()
        parts = [[2, 2, 12, 2, 12, 10, 2, 10], [14.0, 2, 20, 2, 20, 9, 14, 9]]
        for segmentation, area, box, category, iscrowd in (
            (parts, 122, [2, 2, 18, 8], 5, 0),
            ({"size": [height, width], "counts": counts}, int(columns.sum()), None, 9, 0),
            (mask_rle(crowd), int(crowd.sum()), [10, height - 8, width - 10, 8], 9, 1),
        ):
            annotation = {"id": 100 + len(annotations), "image_id": 10 + number, "category_id": category}
            annotation |= {"segmentation": segmentation, "area": area, "iscrowd": iscrowd}
            annotations.append(annotation | ({"bbox": box} if box else {}))
    content = {
        "info": {"description": "kites and dogs"},
        "licenses": [{"id": 3, "name": "CC0"}],
        "images": records,
        "annotations": annotations,
        "categories": [{"id": 5, "name": "kite", "supercategory": "toy"}, {"id": 9, "name": "dog"}],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def write_cutouts(folder: Path, categories: tuple[str, ...] = ("kite", "bird")) -> Path:
    """Cut-outs with an alpha channel, two in a folder for each category."""
    for number, category in enumerate(categories * 2):
        photo, mask = make_photo(seed=70 + number)
        (folder / category).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.dstack([photo, mask])).save(folder / category / f"{number}.png")
    return folder
