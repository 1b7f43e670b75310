"""The Space as people see it: Debian's chromium, driven by Playwright. `make test-browser` installs both.

The screenshots go to out/screenshots; those the README shows are copied from there into examples/.
"""

import shutil
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
from axe_playwright_python.sync_playwright import Axe  # noqa: E402
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


def test_compose_by_click(page):
    tab(page, "Compose")
    upload(page, "compose-cutout", EXAMPLES / "dandelion_cutout.webp")
    upload(page, "compose-background", EXAMPLES / "hills.jpg")
    placed = page.locator("#compose-placed img")
    expect(placed).to_be_visible(timeout=TIMEOUT)
    page.wait_for_timeout(1000)
    placed.scroll_into_view_if_needed()
    box = placed.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.7 * box["height"])
    expect(page.locator("#compose-x input[type=number]")).to_have_value("25", timeout=TIMEOUT)
    expect(page.locator("#compose-y input[type=number]")).to_have_value("70", timeout=TIMEOUT)
    page.locator("#compose-run").click()
    expect(page.locator("#compose-told")).to_contain_text("1600 x 1067 pixels", timeout=TIMEOUT)
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
