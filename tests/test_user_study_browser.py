"""The page of a user study as a volunteer sees it. The screenshots go to out/screenshots."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "training"))
import study_page  # noqa: E402
import study_votes  # noqa: E402
import user_study  # noqa: E402

sys.path.remove(str(ROOT / "training"))
from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import expect  # noqa: E402

SCREENSHOTS = ROOT / "out" / "screenshots"
METHODS = ("oursecret", "pctnet", "doveish")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A running study of three photos: its address and its file of votes."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("composites", "masks", *METHODS):
        (folder / name).mkdir()
    for number in range(3):
        photo, mask = make_photo(600, 900, seed=number)
        Image.fromarray(photo).save(folder / "composites" / f"scene{number}.jpg")
        Image.fromarray(mask).save(folder / "masks" / f"scene{number}.png")
        for place, method in enumerate(METHODS):
            changed = np.where(mask[..., None] > 127, photo // (place + 1), photo).astype(np.uint8)
            Image.fromarray(changed).save(folder / method / f"scene{number}.png")
    methods = {name: folder / name for name in METHODS}
    photos = user_study.read_study(folder / "composites", folder / "masks", methods)
    (folder / "pictures").mkdir()
    pictures = user_study.page_pictures(photos, folder / "pictures")
    votes = study_votes.open_votes(folder / "votes.db", photos)
    page = study_page.build(votes, pictures)
    options = study_page.launch_options(folder / "pictures")
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **options)
    yield page.local_url, votes
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, study):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(study[0])
    yield page
    context.close()


def begin(page, nickname):
    page.locator("#study-nickname input, #study-nickname textarea").fill(nickname)
    page.locator("#study-start").click()
    expect(page.locator(".progress")).to_have_text("Photo 1 of 3")


def rank(page, *ranks):
    """Give ranks, counted from 1, to A, B, C."""
    for letter, number in zip("ABC", ranks, strict=False):
        page.get_by_role("group", name=f"Rank of {letter}").get_by_label(str(number), exact=True).check()


def screenshot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(500)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def rows(votes, volunteer):
    return [(vote.ranking, vote.shown) for vote in votes.votes() if vote.volunteer == volunteer]


def test_a_volunteer_ranks_all_photos(page, study):
    _, votes = study
    addresses = []
    page.on("request", lambda request: addresses.append(request.url + (request.post_data or "")))
    begin(page, "  Ada ")
    screenshot(page, "user_study")
    page.get_by_role("button", name="Save and go on").click()
    expect(page.locator(".study [role=status]")).to_contain_text("Give a rank to A, B, C first")
    rank(page, 1, 2, 2)
    page.get_by_role("button", name="Save and go on").click()
    expect(page.locator(".study [role=status]")).to_contain_text("B and C have rank 2. Give each rank once")
    rank(page, 3, 1, 2)
    page.get_by_role("button", name="Save and go on").dblclick()
    expect(page.locator(".progress")).to_have_text("Photo 2 of 3")
    [(ranking, shown)] = rows(votes, "ada")
    assert ranking == [shown[1], shown[2], shown[0]]

    before = page.locator(".view img").nth(1).get_attribute("src")
    page.reload()  # shows the same pictures in the same order, to the same volunteer
    expect(page.locator(".progress")).to_have_text("Photo 2 of 3")
    assert page.locator(".view img").nth(1).get_attribute("src") == before
    for text in ("Photo 3 of 3", None):
        rank(page, 1, 2, 3)
        page.get_by_role("button", name="Save and go on").click()
        if text:
            expect(page.locator(".progress")).to_have_text(text)
    expect(page.get_by_text("All 3 photos are ranked. Thank you!")).to_be_visible()
    assert len(rows(votes, "ada")) == 3
    seen = page.content() + page.evaluate("JSON.stringify(window.gradio_config)") + "".join(addresses)
    assert not [name for name in (*METHODS, "scene", "composites") if name in seen]

    page.get_by_role("button", name="Somebody else").click()
    expect(page.locator("#study-start")).to_be_visible()


def test_pictures_at_full_size_and_what_was_pasted(page):
    begin(page, "Eve")
    scales = "[...document.querySelectorAll('.view img')].map(i => i.getBoundingClientRect().width)"
    assert max(page.evaluate(scales)) < 900
    page.get_by_role("button", name="Every pixel").click()
    assert {round(width) for width in page.evaluate(scales) if width} == {900}
    image, view = page.locator(".view img").first, page.locator(".view").first
    before = image.bounding_box()["x"]
    view.hover()
    page.mouse.down()
    page.mouse.move(view.bounding_box()["x"] + 400, 400)
    page.mouse.up()
    assert image.bounding_box()["x"] > before
    mask = page.locator(".view img.mask")
    expect(mask).to_be_hidden()
    page.get_by_role("button", name="What was pasted?").click()
    expect(mask).to_be_visible()
    screenshot(page, "user_study_pasted")
    page.get_by_role("button", name="Whole picture").click()
    assert max(page.evaluate(scales)) < 900


def test_two_tabs_of_one_volunteer_count_once(page, study):
    address, votes = study
    begin(page, "Bob")
    other = page.context.new_page()
    other.goto(address)
    expect(other.locator(".progress")).to_have_text("Photo 1 of 3")
    for tab, ranks in ((page, (1, 2, 3)), (other, (3, 2, 1))):
        rank(tab, *ranks)
        tab.get_by_role("button", name="Save and go on").click()
        expect(tab.locator(".progress")).to_have_text("Photo 2 of 3")
    expect(other.locator(".study [role=status]")).to_contain_text("the first ranking counts")
    [(ranking, shown)] = rows(votes, "bob")
    assert ranking == shown


def test_the_keyboard_is_enough(page, study):
    def tab_to(script):
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches('{script}')"):
                return
        raise AssertionError(f"Tab does not reach {script}")

    begin(page, "Cleo")
    tab_to(".view")
    transform = "document.querySelector('.view img').style.transform"
    whole = page.evaluate(transform)
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(transform) != whole
    assert page.evaluate("new Set([...document.querySelectorAll('.view img')].map(i => i.style.transform)).size") == 1
    screenshot(page, "user_study_zoomed")
    page.keyboard.press("0")
    assert page.evaluate(transform) == whole
    for place in range(3):
        tab_to("fieldset input")
        page.keyboard.press("Space")
        for _ in range(place):  # passes through the ranks of the pictures before
            page.keyboard.press("ArrowRight")
    tab_to("button.save")
    page.keyboard.press("Enter")
    expect(page.locator(".progress")).to_have_text("Photo 2 of 3")
    tab_to("figure:has(fieldset) .view")
    for number in "321":
        page.keyboard.press(number)
        if number != "1":
            tab_to(".view")
    tab_to("button.save")
    page.keyboard.press("Enter")
    expect(page.locator(".progress")).to_have_text("Photo 3 of 3")
    assert [ranking == shown for ranking, shown in rows(study[1], "cleo")] == [True, False]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_checkers_find_nothing_serious(browser, study, scheme):
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    page.goto(study[0])
    expect(page.locator("#study-start")).to_be_visible()
    for step in ("door", "pictures"):
        if step == "pictures":
            begin(page, f"Dora {scheme}")
            page.wait_for_timeout(1000)
            screenshot(page, f"user_study_{scheme}")
        found = Axe().run(page).response["violations"]
        serious = [
            (v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == [], step
    page.close()
