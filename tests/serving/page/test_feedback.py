"""“This is a …”: what a person says of a picture on the page is kept with what the model saw of it."""

import numpy as np
from playwright.sync_api import expect
from tests.contrast import LOWEST_CONTRAST
from tests.serving.page.browser_actions import label, upload
from tests.serving.page.conftest import PHONE
from tests.serving.page.served import made_up, serve
from tests.serving.page.strokes import png

from darkroom.inbox.store import read_inbox
from darkroom.serving.loaded_model import GalleryImage

CLASSES = ("</option><b>cat", "dog", "fox")
PICTURE = png(np.full((6, 6), 77, np.uint8))


def model():
    """Always 90 % sure of the first class."""
    return made_up(
        lambda images: np.tile(np.log(np.array([0.9, 0.02, 0.08], np.float32)), (len(images), 1)),
        classes=CLASSES,
        shape=(1, 6, 6),
        gallery=[GalleryImage(PICTURE, "dog", CLASSES[0])],
    )


def test_a_class_is_named_by_keyboard_and_kept(open_page, tmp_path):
    with serve(model(), inbox=str(tmp_path / "inbox")) as served:
        page = open_page(served)
        upload(page, PICTURE)
        choice = page.get_by_label("This is a")
        expect(choice).to_be_visible()
        assert choice.locator("option").all_text_contents() == ["class…", CLASSES[0], "fox", "dog"]
        choice.focus()
        page.keyboard.type("dog")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator(".feedback [role=status]")).to_have_text("Kept as dog. Thank you.")
    (kept,), _ = read_inbox(tmp_path / "inbox")
    assert (kept.record.answer, kept.record.label, kept.record.reason) == (CLASSES[0], "dog", "named")


def test_a_full_inbox_is_said_on_the_page_and_the_answer_stands(open_page, tmp_path):
    with serve(model(), inbox=str(tmp_path / "inbox"), inbox_mb=1e-6) as served:
        page = open_page(served, viewport=PHONE, has_touch=True, color_scheme="dark")
        upload(page, PICTURE)
        page.get_by_label("This is a").select_option("fox")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".feedback [role=status]")).to_have_text("Not kept: the inbox is full.")
        expect(label(page)).to_have_text(CLASSES[0])
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        lowest, text = page.evaluate(LOWEST_CONTRAST)
        assert lowest >= 4.5, text


def test_nobody_is_asked_about_a_test_image_or_by_a_server_without_an_inbox(open_page, tmp_path):
    with serve(model(), inbox=str(tmp_path / "inbox")) as served:
        page = open_page(served)
        page.locator(".tile").first.click()
        expect(label(page)).to_be_visible()
        expect(page.locator(".feedback")).to_have_count(0)
    with serve(model()) as served:
        page = open_page(served)
        upload(page, PICTURE)
        expect(label(page)).to_be_visible()
        expect(page.locator(".feedback")).to_have_count(0)
