"""The Space as people see it: Debian's chromium, driven by Playwright. `make test-browser` installs both.

The screenshots go to out/screenshots; those the README shows are copied from there into examples/.
"""

import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Gradio leaves its examples' files open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

import app  # noqa: E402
import av  # noqa: E402
import compose_tab  # noqa: E402
import object_finder  # noqa: E402
from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from conftest import photo_of_a_ball  # noqa: E402
from playwright.sync_api import expect  # noqa: E402

EXAMPLES = Path(app.__file__).parent / "examples"
SCREENSHOTS = Path(__file__).resolve().parents[1] / "out" / "screenshots"
TIMEOUT = 60_000  # milliseconds; a first call compiles the LUT kernel


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The running Space."""
    app.harmonizer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = app.build()
        page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **app.launch_options())
        yield page.local_url
        page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        found = shutil.which("chromium")  # else Playwright's own
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser, address, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    page.wait_for_selector("#harmonize-run")
    return page


@pytest.fixture
def page(browser, address):
    """The page on a desk."""
    page = open_page(browser, address, viewport={"width": 1280, "height": 1000})
    yield page
    page.close()


def upload(page, place, *files):
    page.locator(f"#{place} input[type=file]").first.set_input_files([str(file) for file in files])
    if place.startswith("batch"):
        expect(page.locator(f"#{place}")).to_contain_text(Path(files[0]).stem[:8])
    else:
        expect(page.locator(f"#{place} img").first).to_be_visible()


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def pictures_of(page, slider):
    """The addresses of before and after."""
    expect(page.locator(f"#{slider} img")).to_have_count(2, timeout=TIMEOUT)
    return [image.get_attribute("src") for image in page.locator(f"#{slider} img").all()]


def download(page, button):
    with page.expect_download(timeout=TIMEOUT) as started:
        page.locator(button).click()
    return started.value


def screenshot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(700)  # pictures fade in
    page.screenshot(path=SCREENSHOTS / f"space_{name}.jpg", type="jpeg", quality=80, full_page=True)


def test_upload_harmonize_weaken_download(page, tmp_path):
    upload(page, "harmonize-composite", EXAMPLES / "dandelion_on_hills.jpg")
    upload(page, "harmonize-mask", EXAMPLES / "dandelion_on_hills_mask.png")
    page.locator("#harmonize-run").click()
    expect(page.locator("#harmonize-told")).to_contain_text("1600 x 1067 pixels", timeout=TIMEOUT)
    before, after = pictures_of(page, "harmonize-result")
    assert before != after
    screenshot(page, "harmonize")
    strength = page.locator("#harmonize-strength input[type=range]")
    strength.focus()
    for _ in range(50):  # the keyboard does it too
        strength.press("ArrowLeft")
    expect(page.locator("#harmonize-strength input[type=number]")).to_have_value("50")
    expect(page.locator("#harmonize-told")).to_contain_text("network not needed again", timeout=TIMEOUT)
    file = download(page, "#harmonize-download")
    assert file.suggested_filename == "dandelion_on_hills_harmonized.png"
    file.save_as(tmp_path / "result.png")
    with Image.open(tmp_path / "result.png") as opened:
        result = np.asarray(opened.convert("RGB"), int)
    composite = np.asarray(Image.open(EXAMPLES / "dandelion_on_hills.jpg"), int)
    mask = np.asarray(Image.open(EXAMPLES / "dandelion_on_hills_mask.png"))
    assert np.array_equal(result[mask == 0], composite[mask == 0])
    assert np.abs(result - composite)[mask == 255].mean() > 1


def test_brush_a_mask(page):
    upload(page, "harmonize-composite", EXAMPLES / "drum_in_yard.jpg")
    page.get_by_label("Paint it").click()
    canvas = page.locator("#harmonize-painting canvas").first
    expect(canvas).to_be_visible()
    page.wait_for_timeout(1500)  # until the photo is drawn
    page.locator("#harmonize-painting").get_by_label("Brush", exact=True).or_(
        page.locator("#harmonize-painting button[title*=rush], #harmonize-painting button[aria-label*=rush]")
    ).first.click()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.75  # the drum
    page.mouse.move(x - 30, y)
    page.mouse.down()
    for step in range(0, 60, 6):
        page.mouse.move(x - 30 + step, y + 20 * (step % 12 == 0))
    page.mouse.up()
    page.wait_for_timeout(800)
    screenshot(page, "brush")
    page.locator("#harmonize-run").click()
    expect(page.locator("#harmonize-told")).to_contain_text("pixels", timeout=TIMEOUT)
    pictures_of(page, "harmonize-result")


def test_the_brush_adds_to_the_object_that_was_found(page, rembg_home, monkeypatch, tmp_path):
    monkeypatch.setenv("AICT_CUT_OUT_MODEL", "u2net")
    object_finder._session.cache_clear()
    photo, _ = photo_of_a_ball(480, 640)
    photo = np.asarray(Image.fromarray(photo[:48, :64]).resize((640, 480)))
    Image.fromarray(photo).save(tmp_path / "ball.png")
    upload(page, "harmonize-composite", tmp_path / "ball.png")
    page.locator("#harmonize-find").click()
    canvas = page.locator("#harmonize-painting canvas").first
    expect(canvas).to_be_visible(timeout=TIMEOUT)
    page.wait_for_timeout(1500)  # until the photo and the found mask are drawn

    def harmonized(shown=""):
        page.locator("#harmonize-run").click()
        result = page.locator("#harmonize-result img").last
        expect(result).not_to_have_attribute("src", shown, timeout=TIMEOUT)
        download(page, "#harmonize-download").save_as(tmp_path / "result.png")
        return np.asarray(Image.open(tmp_path / "result.png").convert("RGB"), int)

    rows, columns = np.mgrid[:480, :640]
    distance = np.hypot(rows - 200, columns - 300)  # from the middle of the ball
    found = harmonized()
    changed = np.abs(found - photo).max(axis=2) > 0
    assert changed[distance < 80].mean() > 0.99
    assert not changed[distance > 175].any()
    shown = pictures_of(page, "harmonize-result")[1]
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.locator("#harmonize-painting button[aria-label*=rush]").first.click()
    x, y = box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.8
    page.mouse.move(x - 20, y)
    page.mouse.down()
    for step in range(0, 42, 6):
        page.mouse.move(x - 20 + step, y)
    page.mouse.up()
    page.wait_for_timeout(800)
    screenshot(page, "found_and_brushed")
    painted = (np.abs(harmonized(shown) - photo).max(axis=2) > 0) & (distance > 175)
    assert painted[350:470, 480:].any()
    assert not painted[:300].any()
    object_finder._session.cache_clear()


def test_a_clip_is_harmonized_and_plays(page, tmp_path):
    tab(page, "Video")
    photo = Image.open(EXAMPLES / "dandelion_on_hills.jpg").resize((320, 208))
    Image.open(EXAMPLES / "dandelion_on_hills_mask.png").resize((320, 208)).save(tmp_path / "mask.png")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 208, "yuv420p"
        for number in range(8):
            frame = av.VideoFrame.from_image(photo.point(lambda level, number=number: level * (1 - number / 40)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    page.locator("#video-clip input[type=file]").set_input_files(str(tmp_path / "clip.mp4"))
    expect(page.locator("#video-clip video")).to_be_visible(timeout=TIMEOUT)
    page.locator("#video-run").click()
    expect(page.locator("body")).to_contain_text("There is no mask yet", timeout=TIMEOUT)
    page.locator("#video-mask input[type=file]").set_input_files(str(tmp_path / "mask.png"))
    expect(page.locator("#video-mask")).to_contain_text("mask.png", timeout=TIMEOUT)
    page.locator("#video-run").click()
    expect(page.locator("#video-told textarea")).to_have_value("8 frames harmonized.", timeout=TIMEOUT)
    player = page.locator("#video-result video")
    expect(player).to_be_visible(timeout=TIMEOUT)
    page.wait_for_function("document.querySelector('#video-result video').readyState > 0", timeout=TIMEOUT)
    assert player.evaluate("video => [video.videoWidth, video.videoHeight]") == [320, 208]
    assert player.evaluate("video => video.duration") == pytest.approx(0.8, abs=0.11)
    screenshot(page, "video")


WIDE, HIGH = 2400, 1600  # the background of the tests of the stage; they place a cut-out of 600 x 300 pixels
MARGIN, PHONE_MARGIN = 36, 24  # around the background on the stage, as in stage.js


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A cut-out with a transparent border of a pixel, and a background."""
    folder = tmp_path_factory.mktemp("pieces")
    cutout = np.zeros((302, 602, 4), np.uint8)
    cutout[1:-1, 1:-1] = (200, 90, 40, 255)
    cutout[1:-1, 1:150] = (40, 60, 200, 255)  # its left shows
    Image.fromarray(cutout).save(folder / "cutout.png")
    down, across = np.mgrid[:HIGH, :WIDE]
    background = np.dstack([across / WIDE * 255, down / HIGH * 255, (across // 100 + down // 100) % 2 * 60 + 90])
    Image.fromarray(background.astype(np.uint8)).save(folder / "background.jpg")
    return folder / "cutout.png", folder / "background.jpg"


def open_stage(page, pieces):
    """Upload both pieces to the Compose tab."""
    tab(page, "Compose")
    expect(page.locator("#compose-stage .missing")).to_contain_text("Upload a cut-out and a background")
    upload(page, "compose-cutout", pieces[0])
    upload(page, "compose-background", pieces[1])
    expect(page.locator("#compose-stage .missing")).to_have_text("", timeout=TIMEOUT)


def on_stage(page, margin=MARGIN):
    """Left, top and scale of the background on the stage: CSS pixels for one of its own."""
    canvas = page.locator("#compose-stage canvas").first
    page.wait_for_timeout(500)
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = canvas.bounding_box()
    return box["x"] + margin, box["y"] + margin, (box["width"] - 2 * margin) / WIDE


def slider(page, name):
    return float(page.locator(f"#compose-{name} input[type=number]").input_value())


@pytest.fixture
def runs(monkeypatch):
    """The runs of the network in the Compose tab."""
    done = []
    predict = compose_tab.predict

    def counted(photo):
        done.append(photo)
        return predict(photo)

    monkeypatch.setattr(compose_tab, "predict", counted)
    return done


def wait_for_run(page, runs, number):
    """Wait until there is the result of this run, and of no further one."""
    for _ in range(TIMEOUT // 100):
        page.wait_for_timeout(100)
        if len(runs) >= number:
            break
    page.wait_for_timeout(2000)
    expect(page.locator("#compose-result .pending, #compose-result .generating")).to_have_count(0, timeout=TIMEOUT)
    expect(page.locator("#compose-told")).to_contain_text(f"{WIDE} x {HIGH} pixels", timeout=TIMEOUT)
    assert len(runs) == number


def expect_result_on_stage(page, shown):
    """Wait until the stage shows the result, or the plain paste."""
    node = "Konva.stages.at(-1).findOne('.object')"
    page.wait_for_function(f"{node}.opacity() === {0 if shown else 1}", timeout=TIMEOUT)


def pasted_box(page, tmp_path):
    """Left, top, right and bottom of what the server pasted, in pixels of the background."""
    page.locator("#compose-download").click()
    with page.expect_download(timeout=TIMEOUT) as started:
        page.locator("a[download='mask.png']").click(timeout=TIMEOUT)
    started.value.save_as(tmp_path / "mask.png")
    mask = np.asarray(Image.open(tmp_path / "mask.png")) > 127
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def near(*wanted):
    return pytest.approx(wanted, abs=2)


def test_drag_and_scale_with_the_mouse(page, pieces, runs, tmp_path):
    open_stage(page, pieces)
    left, top, scale = on_stage(page)
    x, y = left + WIDE / 2 * scale, top + HIGH / 2 * scale
    page.mouse.move(x + 20, y + 10)
    page.mouse.down()
    page.mouse.move(x - 20, y + 30)
    page.mouse.move(x - 80, y + 70, steps=4)
    page.wait_for_timeout(600)
    across, down = (x - 100 - left) / scale, (y + 60 - top) / scale
    assert slider(page, "x") == pytest.approx(across / WIDE * 100, abs=0.03)  # it follows at once
    assert runs == []
    expect_result_on_stage(page, False)
    page.mouse.up()
    wait_for_run(page, runs, 1)
    expect_result_on_stage(page, True)
    assert slider(page, "y") == pytest.approx(down / HIGH * 100, abs=0.03)
    half = 0.5 * HIGH / 2  # with the transparent border
    inset = half * 2 / 602
    wanted = across - half + inset, down - half * 302 / 602 + inset, across + half - inset, down + half * 302 / 602
    assert pasted_box(page, tmp_path) == near(*wanted)

    left, top, scale = on_stage(page)
    corner = left + (across + half) * scale, top + (down + half * 302 / 602) * scale
    page.mouse.move(*corner)
    page.mouse.down()
    page.mouse.move(corner[0] - 10, corner[1] + 5)
    expect_result_on_stage(page, False)
    page.mouse.move(corner[0] - 60, corner[1] - 60 * 302 / 602, steps=4)
    page.mouse.up()
    wait_for_run(page, runs, 2)
    smaller = half - 30 / scale
    assert slider(page, "size") == pytest.approx(smaller * 2 / HIGH * 100, abs=0.2)
    page.locator("#compose-stage .stage").scroll_into_view_if_needed()
    screenshot(page, "stage")
    right, bottom = across - half + 2 * smaller, down - half * 302 / 602 + 2 * smaller * 302 / 602
    assert pasted_box(page, tmp_path) == near(*wanted[:2], right, bottom)


def test_drag_scroll_tap_and_turn_with_a_finger(browser, address, pieces, runs, tmp_path):
    page = open_page(browser, address, viewport={"width": 390, "height": 800}, device_scale_factor=2, has_touch=True)
    open_stage(page, pieces)
    left, top, scale = on_stage(page, PHONE_MARGIN)
    touch = page.context.new_cdp_session(page)

    def stroke(*points):
        for index, (x, y) in enumerate(points):
            kind = "touchMove" if index else "touchStart"
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
            page.wait_for_timeout(60)
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def scrolled():
        return page.evaluate("window.scrollY")

    before = scrolled()
    x, y = left + WIDE / 2 * scale, top + HIGH / 2 * scale
    stroke(*((x + 5 + step, y - step / 2) for step in range(0, 41, 8)))
    wait_for_run(page, runs, 1)
    assert scrolled() == before
    across, down = (x + 40 - left) / scale, (y - 20 - top) / scale
    half = 0.5 * HIGH * 600 / 602 / 2
    assert pasted_box(page, tmp_path) == near(across - half, down - half / 2, across + half, down + half / 2)

    left, top, scale = on_stage(page, PHONE_MARGIN)
    before = scrolled()
    stroke(*((left + 15, top + 100 * scale + step) for step in range(60, -1, -6)))
    page.wait_for_timeout(500)
    assert scrolled() > before  # a finger on the background
    left, top, scale = on_stage(page, PHONE_MARGIN)
    page.touchscreen.tap(left + 0.4 * WIDE * scale, top + 0.8 * HIGH * scale)
    wait_for_run(page, runs, 2)
    across, down = slider(page, "x") / 100 * WIDE, slider(page, "y") / 100 * HIGH
    assert (across, down) == pytest.approx((0.4 * WIDE, 0.8 * HIGH), abs=1 / scale)

    left, top, scale = on_stage(page, PHONE_MARGIN)
    handle = page.evaluate("Konva.stages.at(-1).findOne('.rotater').getAbsolutePosition()")
    x, y = left + across * scale, top + down * scale
    reach = y - (top - PHONE_MARGIN + handle["y"])
    assert reach > 40  # above the object
    turns = np.radians(np.arange(0, 31, 5))
    stroke(*((x + reach * np.sin(turn), y - reach * np.cos(turn)) for turn in turns))
    wait_for_run(page, runs, 3)
    assert slider(page, "rotation") == pytest.approx(-30, abs=0.2)
    assert slider(page, "x") == pytest.approx(across / WIDE * 100, abs=0.02)
    turn = np.radians(slider(page, "rotation"))
    wide, high = half * np.cos(turn) + half / 2 * -np.sin(turn), half * -np.sin(turn) + half / 2 * np.cos(turn)
    wanted = across - wide, down - high, across + wide, min(down + high, HIGH)
    assert pasted_box(page, tmp_path) == near(*wanted)
    page.locator("#compose-stage .stage").scroll_into_view_if_needed()
    screenshot(page, "stage_phone")
    page.close()


def test_keys_and_sliders_move_the_object(page, pieces, runs):
    open_stage(page, pieces)
    on_stage(page)
    page.locator("#compose-stage .stage").focus()
    before = page.evaluate("window.scrollY")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowLeft", "ArrowDown", "+", "[", "["):
        page.keyboard.press(key)
    assert page.evaluate("window.scrollY") == before
    wait_for_run(page, runs, 1)
    assert [slider(page, name) for name in ("x", "y", "size", "rotation")] == [51.9, 51, 51, 2]
    expect(page.locator("#compose-stage [role=status]")).to_contain_text("Across 51.9 %, down 51 %")
    expect_result_on_stage(page, True)
    screenshot(page, "stage_keys")
    for name, value in (("x", 30), ("rotation", -10)):
        page.locator(f"#compose-{name} input[type=number]").fill(str(value))
        page.locator(f"#compose-{name} input[type=number]").blur()
    page.locator("#compose-flip input").check()
    page.wait_for_timeout(1500)
    node = "Konva.stages.at(-1).findOne('.object')"
    shown = page.evaluate(f"[{node}.x() / {node}.getLayer().clipWidth(), {node}.rotation()]")
    assert shown == pytest.approx([0.3, 10], abs=1e-3)
    left = f"{node}.image().getContext('2d').getImageData(100, 100, 1, 1).data"
    assert page.evaluate(f"Array.from({left})") == [200, 90, 40, 255]  # mirrored
    assert len(runs) == 1
    expect_result_on_stage(page, False)  # the result is of another place
    found = Axe().run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []


def test_the_last_place_wins_while_results_take_time(page, pieces, runs, monkeypatch, tmp_path):
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    counted, go_on = compose_tab.predict, threading.Event()

    def held(photo):
        luts = counted(photo)
        if len(runs) == 1:
            go_on.wait(TIMEOUT / 1000)
        return luts

    monkeypatch.setattr(compose_tab, "predict", held)
    open_stage(page, pieces)
    on_stage(page)
    page.locator("#compose-stage .stage").focus()
    page.keyboard.press("ArrowLeft")
    for _ in range(TIMEOUT // 100):
        page.wait_for_timeout(100)
        if runs:
            break
    for _ in range(3):  # let go three times while the first result is made
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(2000)
    assert len(runs) == 1
    go_on.set()
    wait_for_run(page, runs, 2)
    assert slider(page, "x") == 46
    expect_result_on_stage(page, True)
    left, _, right, _ = pasted_box(page, tmp_path)
    assert (left + right) / 2 == pytest.approx(0.46 * WIDE, abs=2)
    assert errors == []


def test_compose_by_click(page):
    tab(page, "Compose")
    upload(page, "compose-cutout", EXAMPLES / "dandelion_cutout.webp")
    upload(page, "compose-background", EXAMPLES / "hills.jpg")
    placed = page.locator("#compose-stage canvas").first
    expect(placed).to_be_visible(timeout=TIMEOUT)
    expect(page.locator("#compose-stage .missing")).to_have_text("")
    page.wait_for_timeout(1000)
    placed.scroll_into_view_if_needed()
    box = placed.bounding_box()
    width, height = box["width"] - 2 * MARGIN, box["height"] - 2 * MARGIN
    page.mouse.click(box["x"] + MARGIN + 0.25 * width, box["y"] + MARGIN + 0.7 * height)
    expect(page.locator("#compose-told")).to_contain_text("1600 x 1067 pixels", timeout=TIMEOUT)
    assert slider(page, "x") == pytest.approx(25, abs=0.2)
    assert slider(page, "y") == pytest.approx(70, abs=0.2)
    page.locator("#compose-run").click()
    pictures_of(page, "compose-result")
    page.locator("#compose-download").click()
    for name in ("composite.png", "mask.png", "harmonized.png"):
        expect(page.locator(f"a[download='{name}']")).to_be_visible(timeout=TIMEOUT)
    screenshot(page, "compose")


def test_batch_of_files(page, tmp_path):
    tab(page, "Batch")
    names = ("dandelion_on_hills", "drum_in_yard")
    upload(page, "batch-composites", *(EXAMPLES / f"{name}.jpg" for name in names))
    upload(page, "batch-masks", *(EXAMPLES / f"{name}_mask.png" for name in names))
    page.locator("#batch-run").click()
    expect(page.locator("#batch-report")).to_contain_text("1600 x 1067", timeout=TIMEOUT)
    file = download(page, "#batch-result a[download]")
    file.save_as(tmp_path / "result.zip")
    with zipfile.ZipFile(tmp_path / "result.zip") as archive:
        assert sorted(archive.namelist()) == [f"{name}.jpg" for name in names]
    screenshot(page, "batch")


def test_examples_run_at_once(page):
    for name, sign in (
        ("Harmonize", "#harmonize-result img"),
        ("Compose", "#compose-result img"),
        ("Batch", "#batch-report [role=gridcell]:has-text('1600 x 1067')"),
        ("Look inside", "#inside-colors img"),
    ):
        tab(page, name)
        page.locator("tr.tr-body, .gallery-item, .gallery button").locator("visible=true").first.click()
        expect(page.locator(sign).first).to_be_visible(timeout=TIMEOUT)
        if name == "Compose":
            expect_result_on_stage(page, True)
    screenshot(page, "inside")


def test_bad_input_is_a_message_on_the_page(page, tmp_path):
    page.locator("#harmonize-run").click()
    expect(page.get_by_text("There is no composite yet")).to_be_visible(timeout=TIMEOUT)
    upload(page, "harmonize-composite", EXAMPLES / "dandelion_on_hills.jpg")
    upload(page, "harmonize-mask", EXAMPLES / "drum_in_yard_mask.png")
    page.locator("#harmonize-run").click()
    expect(page.get_by_text("resize the mask to the composite")).to_be_visible(timeout=TIMEOUT)
    screenshot(page, "error")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    page.locator("#harmonize-composite").get_by_label("Clear").or_(
        page.locator("#harmonize-composite button[aria-label*=lear], #harmonize-composite button[aria-label*=emove]")
    ).first.click()
    page.locator("#harmonize-composite input[type=file]").first.set_input_files(str(broken))
    expect(page.get_by_text("is not an image of a known format").first).to_be_visible(timeout=TIMEOUT)


def test_a_phone_will_do(browser, address):
    page = open_page(browser, address, viewport={"width": 390, "height": 800}, device_scale_factor=2, has_touch=True)
    page.locator("tr.tr-body").locator("visible=true").first.tap()
    expect(page.locator("#harmonize-told")).to_contain_text("pixels", timeout=TIMEOUT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for locator in ("#harmonize-run", "#harmonize-strength", "#harmonize-result"):
        page.locator(locator).scroll_into_view_if_needed()
        box = page.locator(locator).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    screenshot(page, "phone")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_checkers_find_nothing_serious(browser, address, scheme):
    page = open_page(browser, address, viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    for name in ("Harmonize", "Compose", "Batch", "Look inside"):
        tab(page, name)
        page.locator("tr.tr-body, .gallery-item, .gallery button").locator("visible=true").first.click()
        page.wait_for_timeout(6000)
        found = Axe().run(page).response["violations"]
        serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], name
    page.close()


def test_the_keyboard_reaches_everything(page):
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement?.closest('[id]')?.id || document.activeElement?.textContent"))
    assert {"harmonize-composite", "harmonize-mask", "harmonize-run", "harmonize-download"} <= reached, reached
