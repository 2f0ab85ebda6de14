"""What the page does when something changes behind it: the champion, the server, the key."""

from dataclasses import replace

import numpy as np
from playwright.sync_api import expect
from tests.serving.page.browser_actions import draw, label, look_again, upload
from tests.serving.page.served import made_up, serve
from tests.serving.page.strokes import png

AWAY = "The server does not respond \u2013 trying again"
GRAY = png(np.full((8, 8), 100, np.uint8))


def promoted(loaded, version, **changes):
    return replace(loaded, version=version, about=dict(loaded.about) | {"version": version}, **changes)


def sure_of(column, classes=2):
    """A model that always answers with the same class."""

    def infer(images):
        logits = np.zeros((len(images), classes), np.float32)
        logits[:, column] = 5
        return logits

    return infer


def test_another_champion_answers_for_the_picture_on_show(digits, open_page):
    with serve(digits) as served:
        page = open_page(served)
        draw(page, "7")
        expect(label(page)).to_have_text("7")
        other = made_up(sure_of(3, 10), classes=digits.classes, shape=digits.shape, mean=(0.3,), version="2")
        served.service.serve(replace(other, reference=digits.reference, transform=digits.transform), None)
        expect(page.locator("#notice")).to_have_text("Version 2 of demo is now champion.")
        expect(page.locator("#model-version")).to_have_text("version 2")
        expect(label(page)).to_have_text("3")
        expect(page.locator(".column.champion .pill")).to_have_text("version 2")
        # It has no gallery and no confusion matrix; the one before had.
        expect(page.locator("#gallery-section")).to_be_hidden()
        expect(page.locator("#confusion-section")).to_be_hidden()
        served.service.serve(digits, None)
        look_again(page)
        expect(label(page)).to_have_text("7")
        expect(page.locator("#gallery-section")).to_be_visible()


def test_a_challenger_answers_beside_the_champion(digits, open_page):
    with serve(digits) as served:
        served.service.show_challenger(promoted(digits, "2"), "refused: it is not better")
        page = open_page(served)
        draw(page, "7")
        expect(label(page, "champion")).to_have_text("7")
        expect(label(page, "challenger")).to_have_text("7")
        champion, challenger = page.locator(".column.champion"), page.locator(".column.challenger")
        assert champion.bounding_box()["y"] == challenger.bounding_box()["y"]
        expect(challenger.locator(".pill")).to_have_text("version 2")
        expect(page.locator("#card")).to_contain_text("refused: it is not better")
        # Both saw the same image, which is shown once.
        expect(page.locator(".seen-image")).to_have_count(1)


def test_a_challenger_that_sees_another_image_shows_its_own(open_page):
    first = made_up(sure_of(0), classes=("a", "b"), shape=(1, 8, 8))
    with serve(first) as served:
        served.service.show_challenger(made_up(sure_of(1), classes=("a", "b"), shape=(1, 4, 4), version="2"), None)
        page = open_page(served)
        upload(page, GRAY)
        expect(page.locator(".column.challenger .seen-size")).to_have_text("4 \u00d7 4 pixels")
        expect(page.locator(".top .seen-size")).to_have_text("8 \u00d7 8 pixels")


def test_why_a_newer_champion_does_not_answer_stands_in_the_card(digits, open_page):
    with serve(digits) as served:
        served.service.report_problem("version 9 is champion, but could not be loaded; continuing with version 1")
        page = open_page(served)
        expect(page.locator("#card .warning")).to_contain_text("version 9 is champion, but could not be loaded")
        served.service.report_problem(None)
        look_again(page)
        expect(page.locator("#card .warning")).to_have_count(0)


def test_a_server_that_is_gone_is_noticed_and_that_it_is_back(digits, open_page):
    with serve(digits) as served:
        page = open_page(served)
        expect(page.locator("#model-name")).to_have_text("demo")
    look_again(page)
    expect(page.locator("#notice")).to_contain_text(AWAY)
    draw(page, "7")
    expect(page.get_by_role("alert")).to_contain_text(AWAY)
    with serve(digits, served.port):
        expect(label(page)).to_have_text("7")
        expect(page.locator("#notice")).to_be_hidden()


def test_a_full_queue_is_asked_again(digits, open_page):
    with serve(digits) as served:
        page = open_page(served)
        expect(page.locator("#model-name")).to_have_text("demo")
        # As many images as may wait already do.
        served.service._waiting = served.service.settings.queue
        draw(page, "7")
        expect(page.get_by_role("alert")).to_contain_text("too many images are waiting")
        served.service._waiting = 0
        look_again(page)
        expect(label(page)).to_have_text("7")


def test_the_key_is_asked_for_and_kept_until_the_tab_is_closed(digits, open_page):
    with serve(digits, key="open sesame") as served:
        page = open_page(served)
        key = page.get_by_label("Key", exact=True)
        expect(key).to_be_focused()
        key.fill("wrong")
        key.press("Enter")
        expect(page.get_by_text("The server refused this key.")).to_be_visible()
        page.keyboard.press("Escape")
        key.fill("open sesame")
        page.get_by_role("button", name="Use the key").click()
        expect(page.locator("#key-dialog")).to_be_hidden()
        draw(page, "7")
        expect(label(page)).to_have_text("7")
        page.reload()
        expect(page.locator("#model-name")).to_have_text("demo")
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_a_key_that_has_changed_is_asked_for_again_and_the_picture_answered(digits, open_page):
    with serve(digits) as served:
        page = open_page(served)
        expect(page.locator("#model-name")).to_have_text("demo")
    with serve(digits, served.port, key="new"):
        look_again(page)
        expect(page.get_by_label("Key", exact=True)).to_be_visible()
        page.get_by_label("Key", exact=True).fill("new")
        page.keyboard.press("Enter")
        draw(page, "7")
        expect(label(page)).to_have_text("7")


def test_an_image_unlike_the_training_images_is_said_to_be(digits, open_page):
    always = replace(digits, reference=replace(digits.reference, energy_threshold=-1e9))
    with serve(always) as served:
        page = open_page(served)
        draw(page, "7")
        expect(page.locator("#answer .warning")).to_contain_text("Unlike the training images")
        expect(page.locator("#spoken")).to_contain_text("Unlike the training images")
        served.service.serve(promoted(digits, "2", reference=replace(digits.reference, energy_threshold=1e9)), None)
        look_again(page)
        expect(page.locator(".column.champion .pill")).to_have_text("version 2")
        expect(page.locator("#answer .warning")).to_have_count(0)


def test_the_drift_watch_follows_what_was_answered(digits, open_page):
    with serve(digits) as served:
        page = open_page(served)
        expect(page.locator("#drift")).to_contain_text("No images yet.")
        draw(page, "7")
        expect(label(page)).to_have_text("7")
        look_again(page)
        expect(page.locator("#drift")).to_contain_text("The latest 1 of at most 1000 images.")
        seven = page.locator(".shares tbody tr").nth(7)
        expect(seven.locator(".number").first).to_have_text("100.0 %")
