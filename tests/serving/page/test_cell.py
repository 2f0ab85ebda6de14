"""The cells of the confusion matrix open their images, from the report of the evaluation."""

from dataclasses import replace

import pytest
from playwright.sync_api import expect
from tests.serving.page.browser_actions import label
from tests.serving.page.conftest import PHONE
from tests.serving.page.served import made_up, serve
from tests.unit.evaluation.made_up_report import evaluation, write

CLASSES = ("ant", "bee", "<b>wasp</b>")
KEY = "correct horse battery"


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A model with the report of its evaluation, and what is in it."""
    path = tmp_path_factory.mktemp("report") / "index.html"
    write(path, CLASSES)
    found, logits = evaluation(CLASSES)
    loaded = made_up(lambda images: logits[: len(images)], classes=CLASSES, shape=(1, 8, 8), counts=found.confusion)
    return replace(loaded, report=path.read_bytes()), found


def test_a_cell_opens_its_images_by_keyboard_and_one_of_them_is_answered(reported, open_page):
    loaded, found = reported
    with serve(loaded) as served:
        page = open_page(served, viewport=PHONE)
        page.locator("#confusion td").first.focus()
        for key in ("ArrowDown", "ArrowLeft", "ArrowRight", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        expect(page.locator("#cell-title")).to_have_text("bee mistaken for <b>wasp</b>")
        count = int(found.confusion[1, 2])
        expect(page.locator("#cell-images .tile")).to_have_count(count)
        expect(page.locator("#cell-about")).to_contain_text(f"{count} of {count} test images")
        page.locator("#cell-images .tile").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#cell-dialog")).to_be_hidden()
        expect(label(page)).to_be_visible()
        expect(page.get_by_text("This test image is labeled bee.")).to_be_visible()


def test_the_report_is_downloaded_also_where_a_key_is_asked_for(reported, open_page):
    loaded, _ = reported
    with serve(loaded, key=KEY) as served:
        page = open_page(served)
        page.locator("#key").fill(KEY)
        page.keyboard.press("Enter")
        page.locator(".worst button").first.click()
        with page.expect_download() as downloading:
            page.get_by_role("button", name="Download the whole report").click()
        assert downloading.value.suggested_filename == "evaluation.html"
        assert downloading.value.path().read_bytes() == loaded.report


def test_a_version_without_a_report_says_so(reported, open_page):
    with serve(replace(reported[0], report=None)) as served:
        page = open_page(served)
        page.locator("#confusion td.right").first.click()
        expect(page.locator("#cell-about")).to_have_text("This version was evaluated without a report of its images.")
        expect(page.get_by_role("button", name="Download the whole report")).to_be_hidden()
        page.get_by_role("button", name="Close").click()
        expect(page.locator("#cell-dialog")).to_be_hidden()
