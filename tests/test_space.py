import hashlib
import importlib.util
import io
import json
import re
import stat
import sys
import threading
import types
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photo, photo_of_a_ball, small_config
from PIL import Image, ImageCms, PngImagePlugin

gr = pytest.importorskip("gradio")
pytestmark = [
    # Gradio's own modules, on import and while serving.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

import app  # noqa: E402
import batch_tab  # noqa: E402
import compose_tab  # noqa: E402
import deploy  # noqa: E402
import harmonize_tab  # noqa: E402
import harmonizer  # noqa: E402
import inside_tab  # noqa: E402
import object_finder  # noqa: E402
import uploads  # noqa: E402
import video_tab  # noqa: E402
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel, ImageHarmonizationPipeline  # noqa: E402
from aict_hf.errors import InputError  # noqa: E402
from aict_hf.files.images import read_image  # noqa: E402
from aict_hf.harmonize.photo_luts import LUTMaps  # noqa: E402
from aict_hf.model import opened_photo  # noqa: E402
from aict_hf.model.lut import apply_luts  # noqa: E402

SPACE = Path(app.__file__).parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that counts as Gradio's, for uploads and results."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    (tmp_path / "gradio").mkdir()
    return tmp_path / "gradio"


def save(folder, name="photo.png", size=(48, 64), seed=0, **options):
    """A photo and its mask as files."""
    photo, mask = make_photo(*size, seed=seed)
    paths = folder / name, folder / f"{Path(name).stem}_mask.png"
    Image.fromarray(photo).save(paths[0], **options)
    Image.fromarray(mask).save(paths[1])
    return tuple(map(str, paths))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The running Space."""
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        page = app.build()
        page.launch(
            server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, mcp_server=True, **app.launch_options()
        )
        yield page
        page.close(verbose=False)


@pytest.fixture(scope="module")
def client(server):
    return Client(server.local_url, verbose=False)


def test_the_api_gives_what_the_pipeline_gives(client, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo, mask = save(tmp_path, exif=exif, icc_profile=profile)
    path, notes = client.predict(handle_file(photo), handle_file(mask), 0.7, api_name="/harmonize")
    assert notes == []
    result = Image.open(path)
    parts = harmonizer.harmonizer()
    pipeline = ImageHarmonizationPipeline(parts.model, image_processor=parts.processor)
    wanted = pipeline(photo, mask, strength=0.7)
    assert np.array_equal(result, wanted)
    assert not np.array_equal(result, Image.open(photo))
    assert result.info["icc_profile"] == profile
    assert result.getexif()[0x010F] == "a camera"
    assert Path(path).name == "photo_harmonized.png"
    jpeg, _ = client.predict(handle_file(photo), handle_file(mask), format="jpeg", api_name="/harmonize")
    with Image.open(jpeg) as opened:
        assert opened.format == "JPEG"


def test_the_api_composes(client, tmp_path):
    cutout, mask = save(tmp_path, size=(30, 30))
    background, _ = save(tmp_path, "background.png", size=(60, 90), seed=3)
    *paths, notes = client.predict(
        handle_file(cutout), handle_file(background), handle_file(mask), x=30, size=60, api_name="/compose"
    )
    assert notes == []
    naive, alpha, result = (np.asarray(Image.open(path)) for path in paths)
    outside = alpha == 0
    assert 0 < outside.sum() < alpha.size
    there = np.asarray(Image.open(background))
    assert np.array_equal(naive[outside], there[outside])
    assert np.array_equal(result[outside], there[outside])
    assert not np.array_equal(naive, result)
    columns = np.flatnonzero((alpha > 127).any(axis=0))
    assert (columns[0] + columns[-1] + 1) / 2 == pytest.approx(0.3 * 90, abs=4)


def test_the_api_and_mcp_say_what_they_take(client, server):
    documented = client.view_api(return_format="dict")["named_endpoints"]
    assert set(documented) == {"/harmonize", "/compose"}  # the page's own wiring is nobody's business
    with urllib.request.urlopen(f"{server.local_url}gradio_api/mcp/schema") as response:
        tools = {tool["name"]: tool for tool in json.load(response)}
    assert len(tools) == 2
    for tool in tools.values():
        for name, argument in tool["inputSchema"]["properties"].items():
            assert argument["description"], name
        files = {name for name, argument in tool["inputSchema"]["properties"].items() if "url" in str(argument)}
        assert files in ({"composite", "mask"}, {"cutout", "background", "mask"})  # given as addresses


def bad_calls(folder):
    photo, mask = save(folder)
    other, other_mask = save(folder, "other.png", size=(20, 20))
    Image.new("L", (64, 48)).save(folder / "black.png")
    (folder / "text.jpg").write_text("no photo")
    Image.new("1", (9000, 9000)).save(folder / "huge.png")
    Image.new("RGB", (64, 48)).save(folder / "program.eps")
    Image.new("RGBA", (64, 48)).save(folder / "nothing.png")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    yield "mask is 20 x 20, composite is 64 x 48", "/harmonize", [photo, other_mask]
    yield "no mask was given", "/harmonize", [photo, None]
    yield "The mask is empty", "/harmonize", [photo, folder / "black.png"]
    yield "text.jpg: is not an image", "/harmonize", [folder / "text.jpg", mask]
    yield "over the limit of 50 megapixels; scale it down", "/harmonize", [folder / "huge.png", mask]
    yield "strength is 2", "/harmonize", [photo, mask, 2.0]
    yield "expected png or jpeg", "/harmonize", [photo, mask, 1.0, False, "exe"]
    yield "does not show", "/compose", [other, photo, other_mask, -100.0]
    yield "size is 0.0; expected a number from 0.1", "/compose", [other, photo, other_mask, 50.0, 50.0, 0.0]
    yield "feather is 2000", "/compose", [other, photo, other_mask, 50.0, 50.0, 50.0, 0.0, False, 2000.0]
    yield "strength is 'abc'", "/harmonize", [photo, mask, "abc"]
    yield "program.eps: is not an image of a known format", "/harmonize", [folder / "program.eps", mask]
    yield "The mask text.jpg: is not an image", "/harmonize", [photo, folder / "text.jpg"]
    yield "is HEIC, which is not accepted here; save it as JPEG or PNG", "/harmonize", [folder / "phone.heic", mask]
    yield "The composite is transparent everywhere", "/harmonize", [folder / "nothing.png", None]
    yield "transparent wherever the mask is white", "/harmonize", [folder / "nothing.png", mask]
    yield "invert_mask is 'false'; expected true or false", "/harmonize", [photo, mask, 1.0, "false"]
    yield "flip is 'no'; expected true or false", "/compose", [other, photo, other_mask, 50.0, 50.0, 50.0, 0.0, "no"]


def test_bad_input_is_answered_without_folders_or_traces(client, tmp_path):
    for message, api_name, arguments in bad_calls(tmp_path):
        sent = [handle_file(a) if isinstance(a, str | Path) and Path(a).is_file() else a for a in arguments]
        with pytest.raises(AppError, match=re.escape(message)) as raised:
            client.predict(*sent, api_name=api_name)
        answer = str(raised.value)
        assert "/" not in answer
        assert "Traceback" not in answer


def test_paths_that_were_not_uploaded_are_refused(server, client, tmp_path):
    photo, _ = save(tmp_path)
    # a result, so nothing else fails
    mine, _ = client.predict(*map(handle_file, save(tmp_path)), api_name="/harmonize")
    for path in ("/etc/passwd", photo, str(SPACE / "app.py"), "../../etc/passwd", f"{mine}/../../../../etc/passwd"):
        for meta in ({}, {"meta": {"_type": "gradio.FileData"}}):
            answer = post(f"{server.local_url}gradio_api/call/harmonize", {"data": [{"path": path, **meta}]})
            assert "event: error" in answer
            assert "root:" not in answer
            assert str(tmp_path) not in answer


def post(url, body):
    """Call the API without gradio_client, which would upload the files first: what the events say."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as response:
        return response.read().decode()


def test_other_failures_say_nothing_of_this_machine(client, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError(f"{SPACE}/secret")

    monkeypatch.setattr(app, "predict", fail)
    with pytest.raises(AppError, match="went wrong here") as raised:
        client.predict(*map(handle_file, save(tmp_path)), api_name="/harmonize")
    assert "secret" not in str(raised.value)
    assert "secret" in caplog.text


def test_the_page_names_no_folder_but_gradios(server):
    with urllib.request.urlopen(f"{server.local_url}config") as response:
        config = response.read().decode()
    assert str(SPACE.parent) not in config
    assert str(Path.home()) not in config.replace(uploads.get_upload_folder(), "")


def test_results_are_gradios_to_delete(server, client, tmp_path):
    from gradio.route_utils import delete_files_created_by_app

    client.predict(*map(handle_file, save(tmp_path)), api_name="/harmonize")
    folder = Path(uploads.get_upload_folder())
    assert list(folder.rglob("*_harmonized.png"))
    assert server.delete_cache[1] == 3600
    delete_files_created_by_app(server, age=0)
    assert not list(folder.rglob("*_harmonized.png"))
    assert not list(folder.rglob("photo*.png"))  # the uploads


def test_a_full_queue_is_said(tmp_path, monkeypatch, folder):
    started, go_on = threading.Event(), threading.Event()
    predict = app.predict

    def slow_predict(*arguments):
        started.set()
        go_on.wait(30)
        return predict(*arguments)

    monkeypatch.setattr(app, "predict", slow_predict)
    monkeypatch.setattr(app, "JOBS", 1)
    monkeypatch.setattr(app, "QUEUE", 1)
    page = app.build()
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **app.launch_options())
    try:
        client = Client(page.local_url, verbose=False)
        files = [handle_file(path) for path in save(tmp_path)]
        running = client.submit(*files, api_name="/harmonize")
        assert started.wait(20)
        waiting = client.submit(*files, api_name="/harmonize")
        while not len(page._queue):
            pass
        with pytest.raises(Exception, match="ueue is full"):
            client.predict(*files, api_name="/harmonize")
        go_on.set()
        assert Path(running.result(30)[0]).is_file()
        assert Path(waiting.result(30)[0]).is_file()
    finally:
        go_on.set()
        page.close(verbose=False)


def test_another_strength_needs_no_network(folder, monkeypatch):
    photo, mask = save(folder)
    pictures, looked, told, overlay, _ = harmonize_tab.run(photo, harmonize_tab.UPLOADED, mask, None, False, 100)
    assert "64 x 48 pixels" in told
    assert overlay.size == (64, 48)
    wanted = harmonize_tab.run(photo, harmonize_tab.UPLOADED, mask, None, False, 40)[0][1]

    def never(*_):
        raise AssertionError("the network ran again")

    monkeypatch.setattr(harmonizer, "_predict_maps", never)
    weaker, told, _ = harmonize_tab.change_strength(looked, photo, 40)
    assert np.array_equal(Image.open(weaker[1]), Image.open(wanted))
    assert not np.array_equal(Image.open(weaker[1]), Image.open(pictures[1]))
    assert "not needed again" in told
    harmonize_tab.save(looked, photo, 40, "PNG")
    parts = harmonizer.harmonizer()
    pipeline = ImageHarmonizationPipeline(parts.model, image_processor=parts.processor)
    assert np.array_equal(Image.open(next(folder.rglob("photo_harmonized.png"))), pipeline(photo, mask, strength=0.4))


def test_masks_come_from_the_brush_and_from_alpha(folder):
    photo, mask = save(folder, size=(48, 64))
    stroke = np.zeros((24, 32, 4), np.uint8)  # the preview was half as large
    stroke[6:18, 8:24] = (255, 0, 0, 255)
    painting = {"layers": [Image.fromarray(stroke)], "background": None, "composite": None}
    looked = harmonize_tab.run(photo, harmonize_tab.PAINTED, None, painting, False, 100)[1]
    painted = harmonizer.unpacked(looked.mask)
    assert painted.shape == (48, 64)
    assert painted[24, 32] == 255
    assert painted[2, 2] == 0
    inverted = harmonizer.unpacked(harmonize_tab.run(photo, harmonize_tab.PAINTED, None, painting, True, 100)[1].mask)
    assert np.array_equal(inverted, 255 - painted)

    cut_out = Image.open(photo)
    cut_out.putalpha(Image.open(mask))
    cut_out.save(folder / "cutout.png")
    source, shown, found = harmonize_tab.take_composite(str(folder / "cutout.png"))
    assert (source, found) == (harmonize_tab.ALPHA, None)
    assert shown.size == (64, 48)
    with pytest.warns(UserWarning, match=r"The composite: nothing visible lies outside the foreground"):
        looked = harmonize_tab.run(str(folder / "cutout.png"), source, None, None, False, 100)[1]
    assert np.array_equal(harmonizer.unpacked(looked.mask), Image.open(mask))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda photo, mask: harmonize_tab.run(None, "Upload a mask", mask, None, False, 100), "no composite yet"),
        (lambda photo, mask: harmonize_tab.run(photo, "Upload a mask", None, None, False, 100), "no mask yet"),
        (lambda photo, mask: harmonize_tab.run(photo, "Paint it", None, None, False, 100), "Nothing is painted yet"),
        (lambda photo, mask: harmonize_tab.save(None, photo, 100, "PNG"), "no result yet"),
        (lambda photo, mask: compose_tab.run(photo, mask, None, 100, 50, 50, 50, 0, False, 0, False), "no background"),
        (lambda photo, mask: compose_tab.save(None, None, None, None, 100, "PNG"), "no result yet"),
        (lambda photo, mask: inside_tab.run(None, None, 50, 50), "no composite yet"),
        (lambda photo, mask: batch_tab.run(None, None), "no composites yet"),
        (
            lambda photo, mask: harmonize_tab.run("/etc/passwd", "Upload a mask", mask, None, False, 100),
            "not an upload",
        ),
        (lambda photo, mask: harmonize_tab.run(photo + "x", "Upload a mask", mask, None, False, 100), "was deleted"),
    ],
)
def test_what_is_missing_is_said(folder, call, message):
    with pytest.raises(gr.Error, match=message):
        call(*save(folder))


def test_sixteen_bits_and_tiffs_are_shown_and_kept(folder):
    photo, mask = make_photo(48, 64)
    uploads.write_image(folder / "deep.tif", uploads.ImageFile(photo.astype(np.uint16) * 257))
    Image.fromarray(mask).save(folder / "mask.png")
    (before, after), looked, *_ = harmonize_tab.run(
        str(folder / "deep.tif"), harmonize_tab.UPLOADED, str(folder / "mask.png"), None, False, 100
    )
    for path in (before, after):
        with Image.open(path) as opened:
            assert opened.format == "JPEG"
    assert np.abs(np.asarray(Image.open(before), int) - photo).mean() < 3
    harmonize_tab.save(looked, looked.photo, 100, "PNG")
    saved = next(folder.rglob("deep_harmonized.png"))
    assert uploads.read_photo(saved).pixels.dtype == np.uint16


def test_the_stage_shows_small_copies(folder):
    cutout, mask = save(folder, size=(1200, 1800))
    background, _ = save(folder, "background.png", size=(1000, 1600), seed=2)
    small = compose_tab.take_pieces(cutout, mask, background)
    sent = compose_tab.show(small, 50, 0)
    assert [(sent[name]["width"], sent[name]["height"]) for name in sent] == [(1800, 1200), (1600, 1000)]
    levels, behind = (np.array(read_image(sent[name]["file"]["path"]).pixels) for name in ("cutout", "background"))
    assert (levels.shape, behind.shape) == ((600, 900, 4), (563, 900, 3))
    assert compose_tab.show_softer(small, 50, 0) == gr.skip()
    softer = read_image(compose_tab.show_softer(small, 50, 2)["cutout"]["file"]["path"]).pixels
    assert (np.array(softer) <= levels)[..., 3].all()
    assert np.array(softer)[..., 3].sum() < 0.99 * levels[..., 3].sum()
    assert compose_tab.show(None, 50, 0) == {"cutout": None, "background": None}
    opaque = compose_tab.take_pieces(cutout, None, background)
    assert compose_tab.show(opaque, 50, 0)["cutout"] is None  # its mask is yet to come


def test_the_old_background_does_not_bleed_into_the_edges_on_the_stage(folder):
    photo, mask = np.full((1200, 1800, 3), 255, np.uint8), np.zeros((1200, 1800), np.uint8)
    photo[300:901, 500:1301] = 10
    mask[300:901, 500:1301] = 255
    Image.fromarray(photo).save(folder / "photo.png")
    Image.fromarray(mask).save(folder / "mask.png")
    cutout, _ = compose_tab.take_pieces(str(folder / "photo.png"), str(folder / "mask.png"), None)
    levels = np.asarray(cutout.pixels)
    edge = (levels[..., 3] > 20) & (levels[..., 3] < 250)
    assert edge.any()
    assert levels[edge][:, :3].max() <= 20


def test_another_strength_pastes_again(folder):
    cutout, mask = save(folder, size=(60, 40))
    background, _ = save(folder, "background.png", size=(1000, 1600), seed=2)
    pictures, composed, told, _ = compose_tab.run(cutout, mask, background, 100, 30, 60, 50, 20, True, 1, False)
    assert "1600 x 1000 pixels" in told
    weaker, *_ = compose_tab.change_strength(composed, cutout, mask, background, 0)
    assert compose_tab.change_strength(composed, cutout, mask, cutout, 0)[0] == gr.skip()  # another's result
    assert np.array_equal(Image.open(weaker[1]), Image.open(pictures[0]))


def test_vendored_files_are_what_their_makers_publish(server):
    table = (SPACE / "vendor/README.md").read_text()
    ((name, sum_),) = re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", table, re.M)
    assert hashlib.sha256((SPACE / "vendor" / name).read_bytes()).hexdigest() == sum_
    with urllib.request.urlopen(f"{server.local_url}config") as response:
        loaded = [part["props"].get("head") or "" for part in json.load(response)["components"]]
    assert any("Konva JavaScript Framework" in head for head in loaded)
    assert not any("src=" in head[:100] for head in loaded)  # nothing from elsewhere


def test_colours_are_pasted_as_they_look(folder):
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # red and green are each other's
    swapped = swapped.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")
    cut_out = Image.new("RGBA", (40, 40), (200, 60, 60, 255))
    cut_out.putpixel((0, 0), (0, 0, 0, 0))
    cut_out.save(folder / "cutout.png", icc_profile=swapped)
    Image.new("RGB", (80, 60), (90, 90, 90)).save(folder / "plain.png")
    Image.new("RGB", (80, 60), (90, 90, 90)).save(folder / "swapped.png", icc_profile=swapped)
    Image.new("L", (80, 60), 90).save(folder / "gray.png", icc_profile=swapped)
    for name, color, profile in (
        ("plain.png", (60, 200, 60), None),
        ("swapped.png", (200, 60, 60), swapped),
        ("gray.png", (60, 200, 60), None),  # the result is RGB, for which a gray profile is none
    ):
        pieces = compose_tab.Pieces(str(folder / "cutout.png"), None, str(folder / name))
        composite, *_ = compose_tab.paste_pieces(pieces, compose_tab.Arrangement())
        assert composite.pixels.getpixel((40, 30)) == pytest.approx(color, abs=2)
        assert composite.icc_profile == profile


@pytest.fixture
def ball(folder, rembg_home, monkeypatch):
    """An upload of a bright ball that is larger than its preview, and the mask that rembg finds."""
    monkeypatch.setenv("AICT_CUT_OUT_MODEL", "u2net")
    monkeypatch.setattr(uploads, "PREVIEW_SIDE", 32)
    monkeypatch.setattr(uploads.preview, "__defaults__", (32,))
    object_finder._session.cache_clear()
    Image.fromarray(photo_of_a_ball()[0]).save(folder / "ball.png")
    yield (
        str(folder / "ball.png"),
        harmonizer.unpacked(object_finder.find("", uploads.read_photo(folder / "ball.png")).mask),
    )
    object_finder._session.cache_clear()


def corrected(painting):
    """The value of an editor after a stroke of the brush in one corner, and of the eraser in the middle of the ball."""
    [layer] = painting["layers"]
    pixels = np.array(layer)
    assert pixels.shape == (24, 32, 4)
    pixels[20:, 28:] = (255, 59, 48, 255)
    pixels[9:12, 14:17] = 0
    return {**painting, "layers": [Image.fromarray(pixels)]}


def test_the_found_object_is_harmonized_as_it_is_or_corrected(ball):
    photo, wanted = ball
    source, painting, found = harmonize_tab.find_object(photo)
    assert source == harmonize_tab.PAINTED
    looked = harmonize_tab.run(photo, source, None, painting, False, 100, found)[1]
    assert np.array_equal(harmonizer.unpacked(looked.mask), wanted)
    looked = harmonize_tab.run(photo, source, None, corrected(painting), False, 100, found)[1]
    mask = harmonizer.unpacked(looked.mask)
    assert (mask[42:, 58:] == 255).all()
    assert (mask[19:23, 29:33] == 0).all()
    untouched = np.ones_like(mask, bool)
    untouched[36:, 52:] = untouched[14:28, 24:38] = False
    assert np.array_equal(mask[untouched], wanted[untouched])
    elsewhere = harmonize_tab.run(photo, source, None, painting, False, 100, object_finder.Found("other", b""))[1]
    assert not np.array_equal(harmonizer.unpacked(elsewhere.mask), wanted)  # the editor's small mask


def test_a_cut_out_object_is_pasted_as_found_or_corrected(ball, folder):
    photo, wanted = ball
    background, _ = save(folder, "background.png", size=(60, 90), seed=3)
    mask, painting, found, clean_edges = compose_tab.cut_out(photo)
    assert clean_edges
    assert np.array_equal(Image.open(mask), wanted)
    assert compose_tab.correct(photo, found, painting, mask) == (gr.skip(),) * 4
    assert compose_tab.correct("another", found, painting, mask) == (gr.skip(),) * 4
    better, slider, told, _ = compose_tab.correct(photo, found, corrected(painting), mask)
    assert (slider, told) == (None, "")
    assert np.asarray(Image.open(better))[44, 60] == 255
    assert np.array_equal(Image.open(compose_tab.correct(photo, found, painting, better)[0]), wanted)  # undone
    arrangement = (50, 50, 50, 0, False, 0, clean_edges)
    _, composed, *_ = compose_tab.run(photo, mask, background, 100, *arrangement)
    assert composed.pieces == compose_tab.Pieces(photo, mask, background)
    assert compose_tab.forget(found)[0] is None
    assert compose_tab.forget(None)[0] == gr.skip()


def test_what_is_not_found_is_said(ball, folder, monkeypatch):
    Image.new("RGB", (20, 20), "gray").save(folder / "flat.png")
    photo, mask = save(folder)
    cut_out = Image.open(photo)
    cut_out.putalpha(Image.open(mask))
    cut_out.save(folder / "cutout.png")
    for handler, name, words in (
        (harmonize_tab.find_object, "flat.png", "u2net found no object"),
        (compose_tab.cut_out, "flat.png", "u2net found no object"),
        (compose_tab.cut_out, "cutout.png", "The cut-out is transparent in places already"),
    ):
        with pytest.raises(gr.Error, match=words):
            handler(str(folder / name))
    with pytest.raises(gr.Error, match="There is no cut-out yet"):
        compose_tab.cut_out(None)


def test_without_a_model_visitors_read_no_folders(ball, folder, monkeypatch):
    object_finder._session.cache_clear()
    monkeypatch.delenv("AICT_CUT_OUT_MODEL")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody is there
    with pytest.raises(gr.Error, match=r"isnet-general-use.onnx is not in .* cannot be downloaded") as caught:
        compose_tab.cut_out(ball[0])
    assert str(folder.parent) not in str(caught.value)


@pytest.mark.parametrize("installed", [True, False])
def test_buttons_that_need_rembg_are_hidden_without_it(monkeypatch, installed):
    for tab in (compose_tab, harmonize_tab):
        monkeypatch.setattr(tab, "INSTALLED", installed)
        with gr.Blocks() as page:
            tab.build()
        buttons = {block.elem_id: block.visible for block in page.blocks.values() if isinstance(block, gr.Button)}
        [visible] = [buttons[name] for name in ("compose-cut", "harmonize-find") if name in buttons]
        assert visible == installed


def test_all_that_takes_time_shares_one_limit():
    page = app.build()
    limits = {event.name: event.concurrency_id for event in page.fns.values() if event.fn is not None}
    previews = {name for name, limit in limits.items() if limit == "previews"}
    assert previews == {"click", "show", "show_point", "show_softer", "show_source"}
    assert {limits[name] for name in limits if name not in previews} == {"photos"}
    assert {"harmonize", "compose", "run", "run_example", "run_on_stage", "take_composite", "take_pieces"} <= set(
        limits
    )


def test_a_photo_is_decoded_once_and_the_state_keeps_no_photo(folder, monkeypatch):
    decoded = []
    photo_arrays = opened_photo.photo_arrays
    monkeypatch.setattr(opened_photo, "photo_arrays", lambda *given: decoded.append(given) or photo_arrays(*given))
    photo, mask = save(folder)
    looked = harmonize_tab.run(photo, harmonize_tab.UPLOADED, mask, None, False, 100)[1]
    assert len(decoded) == 1
    assert {field: type(value) for field, value in vars(looked).items()} == {
        "photo": str,
        "mask": bytes,
        "maps": LUTMaps,
        "before": str,
    }


def test_batches_word_the_limit_for_visitors(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_MEGAPIXELS", 0.001)
    photo, mask = save(folder)
    _, rows, _ = batch_tab.run([photo], [mask])
    assert rows[0][1] == "has 64 x 48 pixels, over the limit of 0.001 megapixels; scale it down"


def test_very_wide_photos_are_shown(folder):
    path = folder / "wide.png"
    Image.new("L", (66000, 2), 90).save(path)
    assert uploads.shown(uploads.read_photo(path), "wide").endswith("wide.png")
    with pytest.raises(InputError, match="JPEG holds at most 65500 pixels a side"):
        uploads.save_result(uploads.read_photo(path), "wide", "JPEG")


def test_batches_report_each_file(folder):
    photo, mask = save(folder, "good.jpg")
    broken, broken_mask = save(folder, "broken.jpg", seed=1)
    Path(broken).write_bytes(Path(broken).read_bytes()[:200])
    alone, _ = save(folder, "alone.jpg", seed=2)
    archive, rows, told = batch_tab.run([photo, broken, alone], [mask, broken_mask])
    assert told == "1 of 3 composites harmonized."
    report = {row[0]: row[1] for row in rows}
    assert report["good.jpg"] == "good.jpg"
    assert "cannot be decoded" in report["broken.jpg"]
    assert "has no mask in masks" in report["alone.jpg"]
    assert not any(str(folder) in str(cell) for row in rows for cell in row)
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["good.jpg"]
        assert Image.open(io.BytesIO(opened.read("good.jpg"))).size == (64, 48)
    assert not list(folder.glob("job-*"))


def make_zip(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_one_zip_with_two_folders_will_do(folder):
    photo, mask = (Path(path).read_bytes() for path in save(folder))
    path = make_zip(
        folder / "all.zip",
        [
            ("holiday/composites/cat.png", photo),
            ("holiday/masks/cat.png", mask),
            ("__MACOSX/holiday/composites/._cat.png", b"x"),
            ("holiday/readme.txt", b"x"),
        ],
    )
    archive, rows, told = batch_tab.run([str(path)], None)
    assert [row[:3] for row in rows] == [["cat.png", "cat.png", "64 x 48"]]
    assert "all.zip: left out 1 folder of tools (__MACOSX) and 1 file of other kinds (.txt 1)" in told
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["cat.png"]


def uploads_of(folder, given):
    """Uploads as files: names with their name as content, and zips as lists of names."""
    paths = []
    for number, name in enumerate(given):
        place = folder / f"{len(list(folder.iterdir()))}-{number}"
        place.mkdir()
        if isinstance(name, str):
            (place / name).write_text(name)
            paths.append(str(place / name))
        else:
            paths.append(str(make_zip(place / "all.zip", [(entry, entry) for entry in name])))
    return paths


CAFE = "caf\u00e9", "cafe\u0301"  # as Windows and macOS compose it
CLUTTER = ["__MACOSX/a/._a.jpg", "a/._a.jpg", "a/.DS_Store", "a/Thumbs.db", "a/@eaDir/a.jpg/x.jpg"]


@pytest.mark.parametrize(
    ("composites", "masks", "pairs"),
    [
        ([["a.jpg", "a_mask.png", "b.jpg", "b-mask.png"]], [], {"a.jpg": "a_mask.png", "b.jpg": "b-mask.png"}),
        (["a.jpg", "a_mask.png", "b.jpg"], [], {"a.jpg": "a_mask.png", "b.jpg": None}),
        ([["a/a.jpg", "a/a_mask.png", *CLUTTER, "a/.ipynb_checkpoints/a.jpg"]], [], {"a.jpg": "a_mask.png"}),
        (["a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "._all.zip"], ["a.png"], {"a.jpg": "a.png"}),
        (
            [["day\\1\\a.jpg", "day\\2\\a.jpg", "day\\"]],
            [["1/a.png", "2/a.png"]],
            {"1/a.jpg": "1/a.png", "2/a.jpg": "2/a.png"},
        ),
        ([["1/a.jpg"]], [["1/a.png", "2/a.png"]], {"1/a.jpg": "1/a.png"}),
        ([["set/a.jpg"]], [["set/a.png"]], {"a.jpg": "a.png"}),
        ([["1/a.jpg", "2/b.jpg"]], ["a.png", "b.png"], {"a.jpg": "a.png", "b.jpg": "b.png"}),
        ([["1/a.jpg", "2/a.jpg"]], ["a.png"], {}),
        ([["1/a.jpg", "2/b.jpg"]], [["2/a.png", "1/b.png"]], {}),
        ([f"{CAFE[1]}.JPG"], [f"{CAFE[0].upper()}_mask.PNG"], {f"{CAFE[1]}.JPG": f"{CAFE[0].upper()}_mask.PNG"}),
        ([["Composites/a.jpg", "Masks/a.png"]], [], {"a.jpg": "a.png"}),
        ([], [["x/composites/1/a.jpg", "x/masks/1/a.png"]], {"a.jpg": "a.png"}),
        ([["H/composite_images/a_1_1.jpg", "H/masks/a_1.png", "H/real_images/a.jpg"]], [], {"a_1_1.jpg": "a_1.png"}),
        ([["images/a.jpg", "masks/a.png"]], [], {"a.jpg": "a.png"}),
        (["a.jfif", "b.avif", "c.jpe", "d.jp2", "e.tga", "f.mpo", "g.ppm"], [f"{n}.png" for n in "abcdefg"], 7),
        (["a.png", "b.png"], ["b.png"], {"a.png": None, "b.png": None}),  # no file is its own mask
        (["a.jpg"], ["a.png", "a.jpg"], {"a.jpg": "a.png"}),
    ],
)
def test_masks_of_a_batch_are_found_by_name(folder, composites, masks, pairs):
    work = folder / "work"
    notes = batch_tab.gather(uploads_of(folder, composites), uploads_of(folder, masks), work)
    jobs, _ = batch_tab.pair(work, notes)
    found = {
        job.composite.relative_to(work / "composites").as_posix(): job.mask
        and job.mask.relative_to(work / ("masks" if (work / "masks").is_dir() else "composites")).as_posix()
        for job in jobs
    }
    assert (len(found) if isinstance(pairs, int) else found) == pairs


def test_one_upload_for_composites_and_masks_is_read_once(folder):
    both = uploads_of(folder, [["a.jpg", "a_mask.png", "b.jpg"]])
    notes = batch_tab.gather(both, both, folder / "work")
    assert notes == ["The masks are the same files as the composites; masks are looked for among these."]
    jobs, _ = batch_tab.pair(folder / "work", notes)
    assert [(job.composite.name, job.mask and job.mask.name) for job in jobs] == [
        ("a.jpg", "a_mask.png"),
        ("b.jpg", None),
    ]


def test_what_a_batch_leaves_out_is_counted(folder):
    given = [["a/a.jpg", "a/notes.txt", "a/b.heic", *CLUTTER], "c.psd", "._d.png"]
    notes = batch_tab.gather(uploads_of(folder, given), uploads_of(folder, ["a.png", "b.png"]), folder / "work")
    batch_tab.pair(folder / "work", notes)
    assert notes[:2] == [
        "all.zip: left out 1 hidden image and 2 folders of tools (@eaDir, __MACOSX) and 2 files of other kinds "
        "(.heic 1, .txt 1).",
        "Uploads: left out 1 hidden image and 1 file of other kinds (.psd 1).",
    ]
    assert notes[2].endswith("masks: 1 of 2 masks belong to no composite.")


def test_names_of_zips_from_macos_are_utf_8(folder):
    path = make_zip(folder / "all.zip", [("cafe__.png", b"x")])
    path.write_bytes(path.read_bytes().replace(b"cafe__", f"{CAFE[1]}".encode()[:6]))  # with no sign of its encoding
    assert [file.stem for file in uploads.unpack(path, folder / "unpacked").files] == [CAFE[1]]


@pytest.mark.parametrize(
    ("composites", "masks", "message"),
    [
        ([], ["a.png"], "There are masks, but no composites."),
        (["a.txt"], [], "There are no images among the uploads. Uploads: left out 1 file of other kinds (.txt 1)."),
        ([["a.zip", "b.txt"]], [], "all.zip: holds no images but 2 files of other kinds (.txt 1, .zip 1); expected "),
        ([["a.zip"]], [], "; unpack the zips inside it"),
        ([["a/" * 40 + "a.png"]], [], "all.zip: holds a path that is too long"),
        ([["a" * 300 + ".png"]], [], "all.zip: holds a path that is too long"),
        (["a.jpg", "a.jpg"], [], None),
    ],
)
def test_batches_that_hold_nothing_to_do_say_why(folder, composites, masks, message):
    given = uploads_of(folder, composites), uploads_of(folder, masks)
    if message is None:  # the same file twice is one
        assert batch_tab.gather(*given, folder / "work") == []
        return
    with pytest.raises(InputError, match=re.escape(message)):
        batch_tab.gather(*given, folder / "work")


def test_batches_without_masks_name_them(folder):
    photo, _ = save(folder)
    with pytest.raises(gr.Error, match=r"neither masks nor transparency.* cat_mask\.png if it comes with"):
        batch_tab.run([photo], None)
    Path(folder / "1").mkdir()
    (folder / "1" / "photo.png").write_bytes(b"another")
    with pytest.raises(gr.Error, match="came twice, with different content"):
        batch_tab.run([photo, str(folder / "1" / "photo.png")], None)


def surprising(folder):
    """Masks and a composite that are read, but probably mean something else, with what is said of them."""
    photo, mask = (Image.open(path) for path in save(folder))
    mask.point(lambda level: level // 3).save(folder / "weak.png")
    red = Image.new("RGB", mask.size)
    red.paste((200, 20, 20), mask=mask.point(lambda level: 255 * (level > 127)))
    red.save(folder / "red.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    photo.save(folder / "turned.jpg", exif=exif)
    return {
        ("photo.png", "weak.png"): "the mask's highest level is 85 of 255",
        ("photo.png", "red.png"): "the mask is in one colour on black",
        ("turned.jpg", "photo_mask.png"): "turned.jpg is turned upright by its EXIF orientation 3",
    }


def test_surprises_are_said_by_every_tab_and_the_api(folder, monkeypatch):
    monkeypatch.setattr(harmonizer, "_predict_maps", cache_once(harmonizer._predict_maps))
    Image.new("RGB", (90, 70), (90, 120, 60)).save(folder / "background.png")
    for (photo, mask), words in surprising(folder).items():
        paths = str(folder / photo), str(folder / mask)
        with pytest.warns(UserWarning, match=words) as warned:
            harmonize_tab.run(paths[0], harmonize_tab.UPLOADED, paths[1], None, False, 100)
        assert not any(str(folder) in str(warning.message) for warning in warned)
        with pytest.warns(UserWarning, match=words):
            inside_tab.run(*paths, 50, 50)
        assert words in " ".join(app.harmonize(*paths)[1])
        (row,) = batch_tab.run([paths[0]], [str(renamed(folder, paths[1], f"{Path(photo).stem}.png"))])[1]
        assert words in row[4]
        assert str(folder) not in row[4]
        if mask == "weak.png":  # nothing of it would show
            continue
        with pytest.warns(UserWarning, match=words):
            compose_tab.run(*paths, str(folder / "background.png"), 100, 50, 50, 50, 0, False, 0, False)
        assert words in " ".join(app.compose(paths[0], str(folder / "background.png"), paths[1])[3])


def cache_once(function):
    """A function that runs once, for maps that nobody looks at."""
    results = []

    def cached(*arguments):
        if not results:
            results.append(function(*arguments))
        return results[0]

    return cached


def renamed(folder, path, name):
    target = folder / f"renamed-{Path(path).stem}" / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(Path(path).read_bytes())
    return target


def test_what_a_result_lacks_is_said(folder):
    photo, mask = (Image.open(path) for path in save(folder))
    photo.putalpha(mask)
    photo.save(folder / "cutout.png", pnginfo=png_text("Author", "a friend"))
    path, notes = uploads.save_result(uploads.read_photo(str(folder / "cutout.png")), "photo", "JPEG")
    assert path.name == "photo.jpg"
    assert notes == ["not kept in the result: the transparency, the PNG texts (Author)"]
    assert uploads.save_result(uploads.read_photo(str(folder / "cutout.png")), "photo", "PNG")[1] == []


def png_text(key, text):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(key, text)
    return chunks


def test_compose_blames_what_is_wrong(folder):
    photo, mask = save(folder)
    background, _ = save(folder, "background.png", size=(40, 40), seed=2)
    Image.open(mask).rotate(90, expand=True).save(folder / "turned.png")
    Image.new("L", (64, 48), 255).save(folder / "white.png")
    Image.new("RGBA", (64, 48), (9, 9, 9, 255)).save(folder / "opaque.png")
    turned, white, opaque = (str(folder / f"{name}.png") for name in ("turned", "white", "opaque"))
    for cutout, given, size, words in (
        (photo, turned, 50, r"The mask is 48 x 64, the cut-out 64 x 48: one of them is turned"),
        (photo, None, 50, r"The cut-out: no mask was given and the image has no alpha channel"),
        (opaque, None, 50, r"The cut-out: .* opaque everywhere"),
        (photo, white, 900, r"The cut-out covers the whole background"),
        (photo, mask, 0.1, r"The cut-out does not show: .* make it larger"),
        (photo, background, 50, r"the cut-out 64 x 48: they must be of one size"),
    ):
        with pytest.raises(gr.Error, match=words):
            compose_tab.run(cutout, given, background, 100, 50, 50, size, 0, False, 0, False)


def link_entry(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("../../evil.png", b"x")], "leads outside"),
        ([("/etc/evil.png", b"x")], "leads outside"),
        ([("C:\\evil.png", b"x")], "leads outside"),
        ([("a\\..\\..\\evil.png", b"x")], "leads outside"),
        ([(link_entry("link.png"), "/etc/passwd")], "symbolic link"),
        ([(f"{n}.png", b"x") for n in range(uploads.MAX_ZIP_ENTRIES + 1)], "all zips of a batch may hold 160 together"),
        ([("bomb.png", bytes(uploads.MAX_UNPACKED_MB * 2**20 + 1))], "may unpack to 256 MB together"),
        ([(f"{n}.txt", b"") for n in range(70_000)], "holds 65535 files"),
        ([("notes.txt", b"x")], "holds no images"),
        ([(".", b"x")], "holds no images"),
        ([("a/cat.png", b"x"), ("a/cat.png", b"y")], "holds a/cat.png twice"),
    ],
    ids=["up", "absolute", "drive", "backslashes", "link", "many", "bomb", "legion", "nothing", "nameless", "twice"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_that_would_do_harm_are_refused(folder, entries, message):
    path = make_zip(folder / "bad.zip", entries)
    with pytest.raises(InputError, match=re.escape(message)):
        uploads.unpack(path, folder / "unpacked")
    assert not list(folder.parent.rglob("evil*"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compressions_that_cannot_be_stopped_are_refused(folder, compression):
    with zipfile.ZipFile(folder / "rare.zip", "w", compression) as archive:
        archive.writestr("cat.png", b"x" * 1000)
    with pytest.raises(InputError, match="pack it as an ordinary zip"):
        uploads.unpack(folder / "rare.zip", folder / "unpacked")


def test_zips_are_limited_together(folder, monkeypatch):
    photo = Path(save(folder)[0]).read_bytes()
    paths = [str(make_zip(folder / f"{n}.zip", [(f"{n}.png", photo)])) for n in range(3)]
    monkeypatch.setattr(batch_tab, "MAX_ZIP_ENTRIES", 2)
    with pytest.raises(gr.Error, match="holds 1 files"):
        batch_tab.run(paths, None)


def test_no_result_of_a_batch_is_lost_to_another(folder):
    photo, mask = save(folder)
    cut_out = Image.open(photo)
    cut_out.putalpha(Image.open(mask))
    names = ("cat.png", "cat.tga", "Cat.PNG", "a cat.png", "a_cat.png")
    for name in names:
        cut_out.save(folder / name)
    archive, rows, told = batch_tab.run([str(folder / name) for name in names], None)
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == ["Cat.PNG", "a cat.png", "a_cat.png"]
    said = {row[0]: row[1] for row in rows}
    assert said["cat.tga"] == "would be written to cat.png, as cat.png; rename one"
    assert said["cat.png"] == "would be written as Cat.PNG, because some systems ignore case; rename one"
    assert told.startswith("3 of 5 composites harmonized.")
    assert all("nothing visible lies outside the foreground" in row[4] for row in rows if row[0] == row[1])


def test_zips_that_are_none_or_locked_are_refused(folder):
    damaged = bytearray(
        make_zip(folder / "damaged.zip", [("cat.png", np.random.default_rng(0).bytes(999))]).read_bytes()
    )
    damaged[60:90] = bytes(30)
    (folder / "damaged.zip").write_bytes(damaged)
    with pytest.raises(InputError, match=r"damaged.zip: is not a readable zip file"):
        uploads.unpack(folder / "damaged.zip", folder / "unpacked")
    (folder / "none.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(InputError, match=r"none.zip: is not a readable zip file"):
        uploads.unpack(folder / "none.zip", folder / "unpacked")
    path = make_zip(folder / "locked.zip", [("cat.png", b"x" * 50)])
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag in the entry, and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is encrypted"):
        uploads.unpack(path, folder / "unpacked")


def test_the_curves_are_the_luts_at_that_point(folder):
    photo, mask = save(folder)
    inside, marked, curves, intervals, colors = inside_tab.run(photo, mask, 25, 75)
    assert marked.size == (64, 48)
    lines = {line.get_label(): line.get_ydata() for line in curves.axes[0].lines}
    height, width = 101, 101
    x, y = 25, 75
    for level in (40, 200):
        flat = torch.full((1, 3, height, width), level / 255)
        there = apply_luts(flat, torch.ones(1, 1, height, width), inside.maps.knots[None], inside.maps.color_lut[None])
        for channel, name in enumerate(inside_tab.CHANNELS):
            assert lines[name][level] == pytest.approx(float(there[0, channel, y, x]) * 255, abs=0.05)
    assert len(intervals.axes) == 3 * inside.maps.sampling_intervals.shape[1]
    assert len(colors.axes) == 3 * inside.maps.color_lut.shape[1]


def test_zerogpu_gets_small_tensors_and_gives_cpu_ones(monkeypatch):
    calls = []

    def gpu(function):
        def decorated(*arguments):
            calls.append(arguments)
            return function(*arguments)

        return decorated

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=gpu))
    spec = importlib.util.spec_from_file_location("harmonizer_on_zerogpu", SPACE / "harmonizer.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "harmonizer_on_zerogpu", module)
    spec.loader.exec_module(module)
    photo, mask = make_photo(300, 500)
    maps = module.predict(module.open_with_mask(uploads.ImageFile(Image.fromarray(photo)), mask).photo).maps
    assert len(calls) == 1
    assert all(tensor.shape[2:] == (256, 256) for tensor in calls[0])
    assert maps.knots.device.type == "cpu"


def test_the_checkpoint_is_the_one_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.setenv("AICT_MODEL", "nothing-of-this-name")
    harmonizer.harmonizer.cache_clear()
    with pytest.raises(InputError, match="nothing-of-this-name"):
        harmonizer.harmonizer()
    AICTModel(AICTConfig.from_dict(small_config().to_dict() | {"color_transform": "curves"})).save_pretrained(tmp_path)
    AICTImageProcessor(size=32).save_pretrained(tmp_path)
    monkeypatch.setenv("AICT_MODEL", str(tmp_path))
    with pytest.raises(InputError, match="colour transformation curves; the Space needs one with aict"):
        harmonizer.harmonizer()
    monkeypatch.delenv("AICT_MODEL")
    harmonizer.harmonizer.cache_clear()
    assert harmonizer.harmonizer().model.config.model_type == "aict"


def test_messages_keep_names_and_lose_folders(folder):
    message = f"{folder}/abc123/my_photo.jpg: is empty; {folder.parent}/x/y.png and /usr/lib/z.so, 3/4 of 10 MB"
    assert uploads.without_folders(message) == "my_photo.jpg: is empty; y.png and z.so, 3/4 of 10 MB"
    assert uploads.safe_name("../../a b?.c") == "a_b_.c"
    assert uploads.safe_name("...") == "photo"


def test_the_space_is_complete(tmp_path, monkeypatch):
    readme = (SPACE / "README.md").read_text()
    front = dict(line.split(": ", 1) for line in readme.split("---")[1].strip().splitlines() if ": " in line)
    assert front["sdk"] == "gradio"
    assert front["sdk_version"].split(".")[0] == gr.__version__.split(".")[0]
    assert (SPACE / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60  # the Hub's limit

    def build_wheel(command, **_):
        (Path(command[command.index("-w") + 1]) / "aict_hf-0.1.0-py3-none-any.whl").write_bytes(b"")
        return types.SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(deploy.subprocess, "run", build_wheel)
    written = deploy.write_space("org/name", tmp_path / "space")
    assert {path.name for path in written.iterdir()} >= {"README.md", "requirements.txt", "app.py", "examples"}
    requirements = (written / "requirements.txt").read_text().splitlines()
    url = "https://huggingface.co/spaces/org/name/resolve/main/aict_hf-0.1.0-py3-none-any.whl"
    assert requirements[-1] == f"aict_hf[16bit,compositing,cutout,numba,space,video] @ {url}"
    sizes = {path.name: path.stat().st_size for path in (SPACE / "examples").iterdir()}
    assert max(sizes.values()) < 400_000


def save_clip(path, frames, *, rate=10):
    """A clip without loss."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "0"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for pixels in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return str(path)


def read_clip(path):
    av = pytest.importorskip("av")
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("mask_is", ["a picture", "a video"])
def test_a_clip_is_harmonized_with_a_picture_or_a_video_as_its_mask(folder, mask_is):
    photo, mask = (np.kron(image, np.ones((8, 8, 1)[: image.ndim], np.uint8)) for image in make_photo(6, 8))
    mask = np.where(mask > 128, 255, 0).astype(np.uint8)
    photo = np.where(mask[..., None] > 0, photo * np.array([1.0, 0.4, 0.2]), photo).astype(np.uint8)
    clip = save_clip(folder / "clip.mp4", [photo] * 4)
    if mask_is == "a video":
        given = save_clip(folder / "mask.mp4", [np.dstack([mask] * 3)] * 4)
    else:
        given = str(folder / "mask.png")
        Image.fromarray(mask).save(given)
    path, told = video_tab.run(clip, given)
    assert told == "4 frames harmonized."
    assert Path(path).name == "clip.mp4"
    assert path != clip
    before, after = read_clip(clip), read_clip(path)
    change = np.abs(after[2].astype(int) - before[2])
    assert len(after) == 4
    assert change[mask > 128].mean() > 5
    assert change[mask == 0].mean() < 2


def test_clips_that_are_missing_too_long_or_no_clips_are_refused(folder, monkeypatch):
    photo, mask = make_photo(48, 64)
    clip = save_clip(folder / "clip.mp4", [photo] * 12)
    Image.fromarray(mask).save(folder / "mask.png")
    given = str(folder / "mask.png")
    (folder / "broken.mp4").write_bytes(b"no video at all" * 50)
    large = save_clip(folder / "large.mp4", [np.zeros((1500, 1600, 3), np.uint8)])
    for arguments, words in (
        ((None, given), "There is no clip yet"),
        ((clip, None), "There is no mask yet"),
        ((given, given), "mask.png: does not have the extension of a video"),
        ((str(folder / "broken.mp4"), given), "broken.mp4: "),
        ((large, given), "1600 x 1500 pixels"),
    ):
        with pytest.raises(gr.Error, match=re.escape(words)):
            video_tab.run(*arguments)
    monkeypatch.setattr(video_tab, "MAX_SECONDS", 1)
    with pytest.raises(gr.Error, match=r"The clip takes 1\.2 s; at most 1 s are taken"):
        video_tab.run(clip, given)
    monkeypatch.setattr(video_tab, "MAX_SECONDS", 60)
    monkeypatch.setattr(video_tab, "MAX_FRAMES", 5)
    with pytest.raises(gr.Error, match="The clip has 12 frames; at most 5 are taken"):
        video_tab.run(clip, given)
    monkeypatch.setattr(video_tab.ClipReader, "frame_count", 0)  # a header may say nothing
    with pytest.raises(gr.Error, match="The clip has more than 5 frames"):
        video_tab.run(clip, given)
    assert not list(folder.glob("result-*/*.mp4"))
