import functools
import http.server
import threading

import datasets
import numpy as np
import pytest
import torch
from conftest import make_photo, put_in_cache, run_afresh
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from aict_hf import DEFAULT_CHECKPOINT, AICTImageProcessor, ImageHarmonizationPipeline

FEATURES = datasets.Features({"label": datasets.Value("int64"), "image": datasets.Image(), "mask": datasets.Image()})


@pytest.fixture
def pipe(model, processor):
    return pipeline("image-harmonization", model=model, image_processor=processor, device="cpu")


def pairs():
    return [
        tuple(map(Image.fromarray, make_photo(*size, seed=seed)))
        for seed, size in enumerate([(40, 56), (21, 33), (40, 56)])
    ]


def direct(model, processor, photo, mask, **kwargs):
    with torch.no_grad():
        outputs = model(**processor(photo, mask, return_tensors="pt"))
    return processor.post_process_harmonization(outputs, photo, mask, **kwargs)[0]


def test_transformers_builds_it_from_the_task_name(pipe):
    assert isinstance(pipe, ImageHarmonizationPipeline)


def test_one_composite_and_mask(pipe, model, processor):
    photo, mask = pairs()[0]
    result = pipe(photo, mask)
    assert isinstance(result, Image.Image)
    assert np.array_equal(result, direct(model, processor, photo, mask))
    assert np.array_equal(pipe({"image": photo, "mask": mask}), result)
    assert np.array_equal(pipe(photo, mask, strength=0.5), direct(model, processor, photo, mask, strength=0.5))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_lists_of_mixed_sizes(pipe, model, processor, batch_size):
    for results in (
        pipe([{"image": photo, "mask": mask} for photo, mask in pairs()], batch_size=batch_size),
        pipe([photo for photo, _ in pairs()], [mask for _, mask in pairs()], batch_size=batch_size),
    ):
        assert len(results) == 3
        for result, (photo, mask) in zip(results, pairs(), strict=True):
            expected = np.asarray(direct(model, processor, photo, mask)).astype(int)
            assert np.abs(np.asarray(result) - expected).max() <= 1


def test_types_are_kept_inside_batches(pipe):
    photo, mask = make_photo()
    inputs = [
        {"image": torch.from_numpy(photo).permute(2, 0, 1), "mask": torch.from_numpy(mask)[None]},
        {"image": photo, "mask": mask},
        {"image": np.dstack([photo, mask])},
    ]
    with pytest.warns(UserWarning, match="nothing visible lies outside"):
        tensor, array, rgba = pipe(inputs, batch_size=3)
    assert tensor.shape == (3, 40, 56)
    assert array.shape == (40, 56, 3)
    assert rgba.shape == (40, 56, 4)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), array)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_web_addresses(pipe, tmp_path):
    photo, mask = pairs()[0]
    exif = Image.Exif()
    exif[0x0112] = 3
    photo.rotate(180).save(tmp_path / "photo.png", exif=exif)
    mask.save(tmp_path / "mask.png")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        result = pipe(address + "photo.png", address + "mask.png", timeout=5)
        with pytest.raises(ValueError, match=r"nothing\.png cannot be downloaded \(HTTP Error 404"):
            pipe(address + "nothing.png", mask)
        server.shutdown()
    assert np.array_equal(result, pipe(photo, mask))


def test_only_the_image_processor_is_looked_for():
    """A processor that transformers looks for costs a request to the Hub, and a warning where there is none."""
    loaded = {name for name in dir(ImageHarmonizationPipeline) if name.startswith("_load_")}
    wanted = {name for name in loaded if getattr(ImageHarmonizationPipeline, name) is not False}
    assert wanted == {"_load_image_processor"}


def test_what_was_saved_apart_loads_without_a_question(model, processor, tmp_path, monkeypatch):
    """transformers asks whether to run custom code, and waits, where it finds no class for something it looks for."""
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    loaded = pipeline("image-harmonization", model=str(tmp_path), device="cpu")
    assert type(loaded) is ImageHarmonizationPipeline
    assert type(loaded.model) is type(model)
    photo, mask = pairs()[0]
    assert np.array_equal(loaded(photo, mask), direct(model, processor, photo, mask))


def test_without_a_model_it_is_the_default_checkpoint(tmp_path, caplog):
    pipe = pipeline("image-harmonization", device="cpu")
    assert pipe.model.config.name_or_path == DEFAULT_CHECKPOINT
    assert pipe.image_processor.size == AICTImageProcessor.from_pretrained(DEFAULT_CHECKPOINT).size
    pipe.save_pretrained(tmp_path)
    assert DEFAULT_CHECKPOINT not in (tmp_path / "config.json").read_text()


def same(results, expected):
    results = list(results)
    return len(results) == len(expected) and all(map(np.array_equal, results, expected))


def test_every_form_of_several_composites(pipe):
    photos, masks = map(list, zip(*pairs(), strict=True))
    expected = pipe(photos, masks)
    rows = [{"label": index, "image": photo, "mask": mask} for index, (photo, mask) in enumerate(pairs())]
    table = datasets.Dataset.from_list(rows, features=FEATURES)
    images_of, masks_of = KeyDataset(table, "image"), KeyDataset(table, "mask")
    assert same(pipe(images=photos, masks=masks), expected)
    assert same(pipe(inputs=photos, masks=masks), expected)
    assert same(pipe(rows), expected)
    assert same(pipe(tuple(rows)), expected)
    assert same(pipe(row for row in rows), expected)
    assert same(pipe(iter(rows)), expected)
    assert same(pipe(table, batch_size=2), expected)
    assert same(pipe(table.to_iterable_dataset()), expected)
    assert same(pipe(images_of, masks_of), expected)
    assert same(pipe(images=images_of, masks=masks), expected)
    assert same(pipe(iter(photos), (mask for mask in masks)), expected)
    assert isinstance(pipe(photos, iter(masks)), list)
    assert np.array_equal(pipe(images=photos[0], masks=masks[0]), expected[0])
    assert np.array_equal(pipe({"image": photos[0], "mask": masks[0], "label": 3}), expected[0])


@pytest.mark.filterwarnings("ignore:nothing visible lies outside")
def test_streams_of_bare_composites(pipe):
    cutouts = [Image.fromarray(np.dstack(make_photo(seed=seed))) for seed in range(3)]
    expected = pipe(cutouts)
    assert same(pipe(cutout for cutout in cutouts), expected)
    table = datasets.Dataset.from_list([{"photo": cutout} for cutout in cutouts])
    stream = pipe(KeyDataset(table, "photo"), batch_size=2)
    assert len(stream) == 2  # runs of the network
    assert same(stream, expected)
    assert list(pipe(KeyDataset(table.select([]), "photo"))) == []


def test_run_batch_test(pipe):
    """As transformers' pipeline tests call it: ten examples from a generator, four at a time."""
    examples = [{"image": photo, "mask": mask} for photo, mask in pairs()]
    assert len(list(pipe((examples[index % 3] for index in range(10)), batch_size=4))) == 10


def test_half_precision(model, processor):
    """The `_fp16` pipeline tests: results of half precision are close, and the background is untouched."""
    photo, mask = pairs()[0]
    expected = np.asarray(direct(model, processor, photo, mask), int)
    half = pipeline("image-harmonization", model=model.to(torch.bfloat16), image_processor=processor, device="cpu")
    result = np.asarray(half(photo, mask), int)
    assert np.abs(result - expected).max() <= 16
    assert np.array_equal(result[np.asarray(mask) == 0], np.asarray(photo)[np.asarray(mask) == 0])


def test_generators_are_streamed(pipe):
    stream = pipe({"image": photo, "mask": mask} for photo, mask in pairs())
    assert next(iter(stream)).size == (56, 40)


def test_paths_and_alpha_masks(pipe, tmp_path):
    photo, mask = make_photo()
    results = []
    for hidden in (0, 255):
        photo[mask == 0] = hidden
        Image.fromarray(np.dstack([photo, mask])).save(tmp_path / "cutout.png")
        with pytest.warns(UserWarning, match="nothing visible lies outside"):
            result = pipe(str(tmp_path / "cutout.png"))
        assert result.mode == "RGBA"
        assert np.array_equal(np.asarray(result)[mask == 0][:, :3], photo[mask == 0])
        results.append(np.asarray(result)[mask > 0])
    assert np.array_equal(*results)


def test_stacked_arrays_are_several(pipe):
    photo, mask = make_photo()
    results = pipe(np.stack([photo] * 3), np.stack([mask] * 3)[..., None])
    assert len(results) == 3
    assert all(np.array_equal(result, pipe(photo, mask)) for result in results)
    with pytest.warns(UserWarning, match="nothing visible lies outside"):
        assert len(pipe(np.stack([np.dstack([photo, mask])] * 2))) == 2
    assert pipe([]) == []


def test_files_are_opened_when_their_turn_comes(pipe, tmp_path, monkeypatch):
    for name, image in zip(("photo.png", "mask.png"), pairs()[0], strict=True):
        image.save(tmp_path / name)
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest: opened.append(path) or original(path, *rest))
    seen = []
    pipe.model.register_forward_pre_hook(lambda *_: seen.append(len(opened)))
    pipe([tmp_path / "photo.png"] * 5, [tmp_path / "mask.png"] * 5)
    assert seen == [2, 4, 6, 8, 10]


def test_a_saved_pipeline_loads_where_the_package_is_not(pipe, forks, tmp_path):
    # transformers names the modules after the folder, whatever characters it has.
    pipe.save_pretrained(tmp_path / "modèle (v1+2)")
    photo, mask = pairs()[0]
    photo.save(tmp_path / "photo.png")
    mask.save(tmp_path / "mask.png")
    code = f"""
import sys
sys.modules["aict_hf"] = None
from transformers import pipeline
pipe = pipeline("image-harmonization", model={str(tmp_path / "modèle (v1+2)")!r}, trust_remote_code=True, device="cpu")
pipe({str(tmp_path / "photo.png")!r}, {str(tmp_path / "mask.png")!r}).save({str(tmp_path / "out.png")!r})
"""
    forks.lines(["-c", code], tmp_path)
    assert np.array_equal(Image.open(tmp_path / "out.png"), pipe(photo, mask))


HUB_PROGRAM = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None  # importing it fails
import numpy as np
from PIL import Image
from transformers import pipeline
pipe = pipeline("image-harmonization", model="org/aict", trust_remote_code=True, device="cpu")
pipe({photo!r}, {mask!r}).save({out!r})
import aict_hf.model.lut, torch
theirs = sys.modules[type(pipe.model).__module__.replace("modeling_aict", "lut")].apply_luts
composite, mask = torch.rand(1, 3, 9, 8), torch.rand(1, 1, 9, 8)
maps = torch.rand(1, 3, 4, 2, 2)
assert theirs is not aict_hf.apply_luts
compiled = [torch.compile(function, backend="aot_eager", fullgraph=True) for function in (theirs, aict_hf.apply_luts)]
first, second = (function(composite, mask, maps, maps) for function in compiled)
assert torch.allclose(first, second, atol=1e-6)
"""


@pytest.mark.parametrize("hidden", [(), ("numba", "triton")], ids=["with kernels", "without"])
def test_a_copy_on_the_hub_works_beside_the_package(pipe, forks, tmp_path, hidden):
    """A repository in an offline cache; numba and Triton hidden or not; then both copies in one process."""
    pipe.save_pretrained(tmp_path / "saved")
    put_in_cache(tmp_path / "saved", tmp_path / "home" / "hub")
    photo, mask = pairs()[0]
    files = {"photo": photo, "mask": mask}
    for name, image in files.items():
        image.save(tmp_path / f"{name}.png")
    paths = {name: str(tmp_path / f"{name}.png") for name in ("photo", "mask", "out")}
    program = HUB_PROGRAM.format(hidden=hidden, **paths)
    if hidden:  # before torch looks for them
        run_afresh(program, tmp_path)
    else:
        forks.lines(["-c", program], tmp_path)
    difference = np.abs(np.asarray(Image.open(tmp_path / "out.png"), int) - np.asarray(pipe(photo, mask)))
    assert difference.max() <= 1


def test_it_survives_saving(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = pipeline(
        "image-harmonization",
        model=type(pipe.model).from_pretrained(tmp_path),
        image_processor=type(pipe.image_processor).from_pretrained(tmp_path),
    )
    assert np.array_equal(again(*pairs()[0]), pipe(*pairs()[0]))


def test_misuse_is_explained(pipe):
    photo, mask = pairs()[0]
    with pytest.raises(ValueError, match="no mask was given"):
        pipe(photo)
    with pytest.raises(ValueError, match="both inside the dicts and beside"):
        pipe([{"image": photo, "mask": mask}], [mask])
    with pytest.raises(ValueError, match="a pipeline input is"):
        pipe([{"photo": photo, "mask": mask}])
    with pytest.raises(ValueError, match="a pipeline input is a row of photo, mask; expected"):
        list(pipe(iter([{"photo": photo, "mask": mask}])))
    with pytest.raises(ValueError, match='row of image, mask_image; expected the mask under the name "mask"'):
        pipe([{"image": photo, "mask_image": mask}])
    with pytest.raises(ValueError, match=r"unknown argument streng; this pipeline takes images, masks, strength,"):
        pipe(photo, mask, streng=0.5)
    with pytest.raises(ValueError, match="composites were given twice"):
        pipe(photo, images=photo)
    with pytest.raises(ValueError, match="no composite was given"):
        pipe()
    for given in (7, b"PNG"):
        with pytest.raises(ValueError, match=f"image is a {type(given).__name__}; expected"):
            pipe(given)


def test_streams_and_masks_of_other_numbers_are_refused(pipe):
    photos, masks = map(list, zip(*pairs(), strict=True))
    stream = iter(pipe(iter(photos), masks[:2]))
    next(stream), next(stream)
    with pytest.raises(ValueError, match="there are 2 masks and more images; pass one mask per image"):
        next(stream)
    with pytest.raises(ValueError, match="there are 2 images and more masks"):
        pipe(photos[:2], iter(masks))
    with pytest.raises(ValueError, match="there are 1 images and more masks"):
        pipe(photos[0], iter(masks))
    images_of = KeyDataset([{"image": photo} for photo in photos], "image")
    with pytest.raises(ValueError, match="3 images came with 2 masks"):
        pipe(images_of, masks[:2])
    with pytest.raises(ValueError, match="3 images came with 1 masks"):
        pipe(images_of, np.asarray(masks[0]))
    with pytest.raises(ValueError, match="both inside the dicts and beside"):
        list(pipe(({"image": photo} for photo in photos), iter(masks)))
