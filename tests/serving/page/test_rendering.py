"""How the page looks and reads: on a phone, in the dark, with many classes, with names that mean harm."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect
from tests.contrast import LOWEST_CONTRAST
from tests.serving.page.browser_actions import draw, label, upload
from tests.serving.page.conftest import PHONE
from tests.serving.page.served import made_up, serve
from tests.serving.page.strokes import png

from darkroom.evaluation.reference import Reference
from darkroom.serving import app
from darkroom.serving.loaded_model import GalleryImage

GRAY = png(np.full((8, 8), 100, np.uint8))
HARMFUL = ("<b>bold</b>", "<img src=x onerror=alert(1)>", "__proto__", "a" * 300, "\u202eright to left", "")

LOOKS = 10_000  # milliseconds, in which a page looks several times


def of_many(classes):
    """A model with a gallery, a drift watch and a confusion matrix, all of these classes."""
    count = len(classes)

    def infer(images):
        return np.tile(np.linspace(2, 0, count, dtype=np.float32), (len(images), 1))

    reference = Reference(
        temperature=1.0, confidence=0.9, class_shares=(1 / count,) * count, energy_threshold=-1e9,
        unlike_share=0.01, images=100,
    )  # fmt: skip
    counts = np.random.default_rng(0).integers(0, 100, (count, count))
    gallery = [GalleryImage(GRAY, classes[row % count], classes[(row + 1) % count]) for row in range(12)]
    return made_up(infer, classes=classes, shape=(1, 8, 8), reference=reference, gallery=gallery, counts=counts)


@pytest.fixture(
    params=[tuple("0123456789"), tuple(f"a rather long name of class {row}" for row in range(100)), HARMFUL],
    ids=["10", "100", "harmful"],
)
def loaded(request):
    return of_many(request.param)


def test_nothing_reaches_beyond_the_window(loaded, open_page):
    with serve(loaded) as served:
        served.service.show_challenger(of_many(loaded.classes), "passed")
        page = open_page(served, viewport=PHONE)
        upload(page, GRAY)
        expect(label(page, "challenger")).to_be_attached()
        expect(page.locator("#confusion table")).to_be_visible()
        expect(page.locator("#drift table").first).to_be_visible()
        for summary in page.locator("summary").all():
            summary.click()
        for width in (360, 700, 1280):
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("side", "rendering", "room"), [(32, "pixelated", 64), (96, "auto", 112)])
def test_small_images_are_shown_as_squares_and_photographs_smooth_and_large(open_page, side, rendering, room):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    logits = np.array([[1.0, 0.0]], dtype=np.float32)
    loaded = made_up(
        lambda images: np.repeat(logits, len(images), 0),
        classes=("ant", "bee"),
        shape=(1, side, side),
        gallery=[GalleryImage(png(pixels), "ant", "ant")] * 30,
    )
    with serve(loaded) as served:
        page = open_page(served)
        page.locator(".tile").first.click()
        expect(label(page)).to_have_text("ant")
        for selector in (".tile img", ".seen-image", "#preview"):
            image = page.locator(selector).first
            expect(image).to_have_css("image-rendering", rendering)
            assert image.bounding_box()["width"] >= room
        page.set_viewport_size(PHONE)
        columns = page.locator("#gallery").evaluate(
            "(each) => getComputedStyle(each).gridTemplateColumns.split(' ').length"
        )
        assert columns >= 2
        below = "document.documentElement.scrollHeight - document.querySelector('main').getBoundingClientRect().bottom"
        assert page.evaluate(f"scrollTo(0, 0), {below}") < 100


def test_names_are_never_markup(open_page):
    with serve(of_many(HARMFUL)) as served:
        page = open_page(served)
        upload(page, GRAY)
        expect(label(page)).to_have_text("<b>bold</b>")
        for summary in page.locator("summary").all():
            summary.click()
        page.locator(".tile").nth(1).click()
        expect(page.get_by_text(f"This test image is labeled {HARMFUL[1]}.")).to_be_visible()
        assert page.locator("main b, img[src=x]").count() == 0
        assert page.locator(".column .bar-label").all_text_contents() == list(HARMFUL)


def test_every_text_can_be_read(loaded, open_page):
    with serve(loaded) as served:
        served.service.show_challenger(of_many(loaded.classes), "refused: why not")
        served.service.report_problem("version 3 could not be loaded")
        page = open_page(served)
        upload(page, GRAY)
        expect(label(page, "challenger")).to_be_visible()
        expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
        expect(page.locator("#confusion table")).to_be_visible()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            contrast, text = page.evaluate(LOWEST_CONTRAST)
            assert contrast >= 4.5, (scheme, text)


def test_dark_and_light_differ(served, open_page):
    grounds = {
        scheme: open_page(served, color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    }
    assert grounds["light"] != grounds["dark"]


def test_all_controls_of_a_phone_are_large_enough_for_a_finger(served, open_page):
    page = open_page(served, viewport=PHONE, has_touch=True)
    expect(page.locator(".tile").first).to_be_visible()
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 44, button.text_content()


def test_nothing_moves_when_an_answer_comes(served, open_page):
    page = open_page(served)
    gallery = page.locator("#gallery-section")
    expect(page.locator(".tile").first).to_be_visible()
    before = gallery.bounding_box()
    draw(page, "7")
    expect(label(page)).to_have_text("7")
    assert gallery.bounding_box() == before


def test_everything_is_reached_with_the_tab_key_in_the_order_of_the_page(served, open_page):
    page = open_page(served)
    draw(page, "7")
    expect(label(page)).to_be_visible()
    expect(page.locator("#confusion table")).to_be_visible()
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.id || document.activeElement.className")
        seen.append(name or page.evaluate("document.activeElement.localName"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
        if seen[-1] == "matrix":
            break
    assert [name.removesuffix(" wrong") for name in seen] == [
        "upload", "camera", "undo", "clear", "heat-switch", "summary", "tile", "matrix",
    ]  # fmt: skip


def test_the_confusion_matrix_shows_every_count(digits, served, open_page):
    page = open_page(served)
    cells = page.locator("#confusion td")
    expect(cells).to_have_count(100)
    shown = [0 if text == "·" else int(text) for text in cells.all_text_contents()]
    assert np.array_equal(np.reshape(shown, (10, 10)), digits.confusion["counts"])


def test_the_card_tells_what_the_server_says(served, open_page):
    page = open_page(served)
    card = page.locator("#card")
    for text in (
        "demo",
        "simple-cnn",
        "8 \u00d7 8 pixels, gray",
        "97.22 %, 95 % interval 95.04 % to 98.65 %",
        "0.9721",
        "0.1000, 95 % interval 0.0800 to 0.1200",
        "PyTorch",
    ):
        expect(card).to_contain_text(text)
    assert card.locator("a").count() == 0


def test_those_who_want_no_motion_get_none(served, open_page):
    page = open_page(served, reduced_motion="reduce")
    moving = "(each) => getComputedStyle(each).transitionDuration !== '0s'"
    assert not page.evaluate(f"[...document.querySelectorAll('*')].some({moving})")


def test_a_tab_that_nobody_sees_asks_nothing(served, open_page):
    page = open_page(served)
    page.clock.install()
    page.reload()
    expect(page.locator("#model-name")).to_have_text("demo")
    with page.expect_response("**/v1/model"):
        page.clock.fast_forward(LOOKS)
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    asked = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    page.clock.run_for(LOOKS)
    page.evaluate("fetch('/healthz')")  # what was asked before is known when this is
    assert asked == ["/healthz"]
    with page.expect_request("**/v1/model"):
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("path", sorted(app.PAGE.iterdir()), ids=lambda path: path.name)
def test_no_file_of_the_page_names_another_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"\b(https?|wss?)://|[\"'(]//", text)
    assert "innerHTML" not in text
    assert len(text.splitlines()) < 400
